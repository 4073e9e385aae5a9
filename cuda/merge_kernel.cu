#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "launch.cuh"
#include "merge.h"

// Merging as a gather: one block of threads owns one output row and walks over the destinations of
// its image, adding the rows that come here, in the order of their positions: no atomics, the same
// bits every run. Bytes moved: N*C in, M*C out, and N integers for each row, from cache. A row of
// `destination` out of range goes nowhere, and a row without a source becomes NaN, as its mean is.

namespace dsm_ext {
namespace {

template <typename T>
__global__ void merge_kernel_impl(
    const T* __restrict__ x,                  // [B, N, C]
    const float* __restrict__ size,           // [B, N]
    const int32_t* __restrict__ destination,  // [B, N]
    int64_t tokens, int64_t rows, int64_t channels,
    T* __restrict__ merged,             // [B, M, C]
    float* __restrict__ merged_size) {  // [B, M]
  const int64_t image = blockIdx.x / rows;
  const auto row = static_cast<int32_t>(blockIdx.x % rows);
  x += image * tokens * channels;
  size += image * tokens;
  destination += image * tokens;
  merged += blockIdx.x * channels;
  for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
    float sum = 0, total = 0;
    int sources = 0;
    T last{};
    for (int64_t n = 0; n < tokens; ++n) {
      if (destination[n] == row) {
        last = x[n * channels + c];
        sum += size[n] * static_cast<float>(last);
        total += size[n];
        ++sources;
      }
    }
    merged[c] = sources == 1 ? last : static_cast<T>(sum * (1 / total));
  }
  if (threadIdx.x == 0) {
    float total = 0;
    for (int64_t n = 0; n < tokens; ++n) {
      total += destination[n] == row ? size[n] : 0;
    }
    merged_size[blockIdx.x] = total;
  }
}

std::tuple<at::Tensor, at::Tensor> merge_kernel(
    const at::Tensor& x_, const at::Tensor& size_, const at::Tensor& destination_, int64_t rows) {
  check_merge(x_, size_, destination_, rows);
  const c10::cuda::CUDAGuard guard(x_.device());
  const int64_t images = x_.size(0), tokens = x_.size(1), channels = x_.size(2);
  const auto x = x_.contiguous();
  const auto size = size_.contiguous();
  const auto destination = destination_.contiguous();
  auto merged = at::empty({images, rows, channels}, x.options());
  auto merged_size = at::empty({images, rows}, size.options());
  if (merged_size.numel() == 0) {
    return {merged, merged_size};
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    merge_kernel_impl<scalar_t>
        <<<static_cast<unsigned>(images * rows), cuda::kThreads, 0, stream>>>(
            x.const_data_ptr<scalar_t>(), size.const_data_ptr<float>(),
            destination.const_data_ptr<int32_t>(), tokens, rows, channels,
            merged.mutable_data_ptr<scalar_t>(), merged_size.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {merged, merged_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("merge", &merge_kernel); }

}  // namespace dsm_ext
