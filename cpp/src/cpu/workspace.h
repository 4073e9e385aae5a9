#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <vector>

#include "bounded_cache.h"
#include "cpu/chain.h"
#include "cpu/kernels/gemm_kernel.h"
#include "cpu/token_state.h"
#include "dsm_ext/config.h"
#include "ops/cpu/matcher.h"

namespace dsm_ext::cpu {

/// The scratch memory of one thread.
struct Scratch {
  float* tile;                 // of the kernel's tile_rows * tile_columns
  std::byte* attention;        // attention_scratch
  float *metric, *new_metric;  // [N, D]
  // For blocks with several merge steps:
  float *size, *new_size;                         // [N]
  int32_t *destination, *member_begin, *members;  // [N], [N + 1], [N]
  Matcher matcher;
};

/// The memory of a forward of some images at a time, laid out once from the shapes. Merging only
/// shortens the sequence, so that one layout serves all schedules.
struct Workspace {
  Workspace(const Config& config, const GemmKernel& kernel, int64_t images, int64_t threads);

  const int64_t images, tokens, threads;
  at::Tensor memory;  // everything below lies in it

  TokenState state, next;  // the tokens of the dense sequence; where merged tokens are written
  std::byte* qkv;          // [images * N, 3 * C] operands: queries, keys, values
  std::byte* pooled_q;     // [images * pooled rows, C] operands
  float* pooled;           // [images, C]
  // How the tokens of a block merge, for each image:
  int32_t *destination, *member_begin, *members;  // [images, N], [images, N + 1], [images, N]
  ChainBuffers buffers;
  std::vector<Scratch> scratch;  // [threads]
};

/// Workspaces that no call uses now. Calls that run at the same time have one each.
class Workspaces {
 public:
  std::unique_ptr<Workspace> take(
      const Config& config, const GemmKernel& kernel, int64_t images, int64_t threads);
  void give_back(std::unique_ptr<Workspace> workspace);

 private:
  std::mutex mutex_;
  BoundedCache<std::unique_ptr<Workspace>> idle_{8};
};

}  // namespace dsm_ext::cpu
