#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <vector>

#include "bounded_cache.h"
#include "cpu/chain.h"
#include "cpu/elements.h"
#include "cpu/kernels/gemm_kernel.h"
#include "cpu/token_state.h"
#include "dsm_ext/config.h"
#include "ops/cpu/matcher.h"

namespace dsm_ext::cpu {

/// The scratch memory of one thread. The arrays have room for the N tokens of one image.
struct Scratch {
  float* tile;                 // a tile of the largest size
  float *metric, *new_metric;  // [N, D + C]; `MergeMetric::keys` uses D values of a row
  float* penalty;              // [N]
  float* attention;            // [N]: the class token's, of one head
  float* rotation;             // [kTileRows, 2 * kPairs]: of some tokens in one panel
  // Used by blocks with several merge steps:
  float *size, *new_size;                         // [N]
  float* importance;                              // [N]: of merged tokens
  int32_t *destination, *member_begin, *members;  // [N], [N + 1], [N]
  Matcher matcher;
};

/// The memory for a forward of up to `images` images with N tokens each. Merging only makes the
/// sequence shorter, so one workspace serves all schedules.
struct Workspace {
  Workspace(const Config& config, const Elements& elements, int64_t images, int64_t threads);

  const int64_t images, tokens, threads;
  at::Tensor memory;  // owns the memory of all pointers below

  TokenState state, next;  // the tokens that a block reads; the merged tokens that it writes
  std::byte* qkv;          // [images * N, 3 * C] operands: queries, keys, values
  std::byte* pooled_q;     // [images * pooled rows, padded C] operands
  float* pooled;           // [images, C]
  std::byte* attention;    // attention_memory(...) bytes
  float* class_query;      // [images, C]: the query of the class token
  float* importance;       // [images, N]: the class token's attention, its mean over the heads
  // How the tokens of a block merge:
  int32_t *destination, *member_begin, *members;  // [images, N], [images, N + 1], [images, N]
  ChainBuffers buffers;
  std::vector<Scratch> scratch;  // [threads]
};

/// The workspaces that no call uses now. Each running call takes one and gives it back.
class Workspaces {
 public:
  std::unique_ptr<Workspace> take(
      const Config& config, const Elements& elements, int64_t images, int64_t threads);
  void give_back(std::unique_ptr<Workspace> workspace);

 private:
  std::mutex mutex_;
  BoundedCache<std::unique_ptr<Workspace>> idle_{8};
};

}  // namespace dsm_ext::cpu
