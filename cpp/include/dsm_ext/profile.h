#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// A named part of a forward, for which a profile counts time.
enum class Stage : int64_t {
  embed,  ///< Cutting patches, patch embedding and position embedding.
  norm1,
  qkv,        ///< The product that gives queries, keys and values.
  match,      ///< Metric and matching. On the CPU's fast path also sizes and log sizes.
  attention,  ///< Attention with the log sizes.
  proj,       ///< The attention's projection and the residual.
  merge,      ///< Merging. Outside the CPU's fast path also norm2, sizes and log sizes.
  norm2,
  fc1,   ///< The MLP's first layer and the activation.
  fc2,   ///< The MLP's second layer and the residual.
  head,  ///< The last norm, pooling and the classifier.
};
constexpr int64_t kStages = 11;  ///< The number of stages.

/// The name of a stage: timm's, or the paper's for the stages that timm does not have.
DSM_EXT_API const char* to_string(Stage stage);

/// The time of one forward, in seconds. On the CPU's fast path each thread counts its own time. On
/// the CPU's ATen path it is elapsed time. On a GPU it is elapsed time by the GPU's clock.
struct DSM_EXT_API Profile {
  double wall = 0;      ///< Elapsed time of the whole forward.
  int64_t threads = 1;  ///< How many threads counted their time.
  /// [depth + 2]: the part before the blocks, each block, and the part after the blocks. An entry
  /// has for each stage the sum of all threads' seconds.
  std::vector<std::array<double, kStages>> seconds;
};

}  // namespace dsm_ext
