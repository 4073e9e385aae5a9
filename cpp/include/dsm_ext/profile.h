#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// What a forward's time goes to.
enum class Stage : int64_t {
  embed,  ///< Patches, their product and the position embedding.
  norm1,
  qkv,        ///< Queries, keys and values.
  match,      ///< The metric, matching, sizes and their logarithms.
  attention,  ///< The log-size bias included.
  proj,       ///< With the residual.
  merge,      ///< Off the CPU's fast path with norm2, the sizes and their logarithms.
  norm2,
  fc1,   ///< With the activation.
  fc2,   ///< With the residual.
  head,  ///< The last norm and the classifier.
};
constexpr int64_t kStages = 11;

/// timm's name for it, or the paper's.
DSM_EXT_API const char* to_string(Stage stage);

/// The time of one forward, in seconds: on the CPU's fast path as its threads spent it, elsewhere
/// as it passed on the CPU, or on the GPU by its own clock.
struct DSM_EXT_API Profile {
  double wall = 0;      ///< From beginning to end.
  int64_t threads = 1;  ///< Threads whose time is counted.
  /// For each block, the seconds that all threads together spent in each stage; before them one
  /// entry for what precedes the blocks, and after them one for what follows.
  std::vector<std::array<double, kStages>> seconds;
};

}  // namespace dsm_ext
