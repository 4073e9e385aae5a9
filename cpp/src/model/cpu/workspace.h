#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <vector>

#include "../../ops/cpu/matcher.h"
#include "chain.h"
#include "dsm_ext/config.h"

namespace dsm_ext::cpu {

/// What a thread needs for itself.
struct Scratch {
  float* tile;                 // [kTileRows, kTile]
  float* attention;            // attention_scratch
  float *metric, *new_metric;  // [N, D]
  // Of a block with several merge steps:
  float *size, *new_size;            // [N]
  int32_t *place, *begin, *sources;  // [N], [N + 1], [N]
  Matcher matcher;
};

/// Every buffer of a forward over some images at a time, planned once from the shapes. Merging
/// only shortens the sequence, so one plan holds for all schedules.
struct Workspace {
  Workspace(const Config& config, int64_t images, int64_t threads);

  const int64_t images, tokens, threads;
  at::Tensor floats, integers;  // what the pointers below point into

  float *x, *other;                  // [images * N, C]: the tokens, and where merged ones go
  float* qkv;                        // [images * N, 3 * C]
  float* pooled_q;                   // [images * pooled rows, C]
  float* pooled;                     // [images, C]
  float *size, *new_size;            // [images, N]
  float *bias, *new_bias;            // [images, padded N]: log sizes, then minus infinity
  int32_t *place, *begin, *sources;  // [images, N], [images, N + 1], [images, N]
  int32_t* holder;                   // [images, gh * gw]: the token that holds each
  Between between;
  std::vector<Scratch> scratch;  // [threads]
};

/// Workspaces between calls. Calls that run at once have one each.
class Workspaces {
 public:
  std::unique_ptr<Workspace> take(const Config& config, int64_t images, int64_t threads);
  void give_back(std::unique_ptr<Workspace> workspace);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace dsm_ext::cpu
