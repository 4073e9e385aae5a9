#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "launch.cuh"
#include "unmerge.h"

// A gather of rows: a thread owns one output element. Bytes moved: 2*Q*C. A row whose source is out
// of range is zero: telling the caller would wait for the device.

namespace dsm_ext {
namespace {

template <typename T>
__global__ void unmerge_kernel_impl(
    const T* __restrict__ x,             // [B, M, C]
    const int32_t* __restrict__ source,  // [B, Q]
    int64_t tokens, int64_t rows, int64_t channels, int64_t count,
    T* __restrict__ result) {  // [B, Q, C]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) {
    return;
  }
  const int64_t row = i / channels;
  const int32_t from = source[row];
  const bool valid = from >= 0 && from < tokens;
  result[i] = valid ? x[(row / rows * tokens + from) * channels + i % channels] : T{};
}

at::Tensor unmerge_kernel(const at::Tensor& x_, const at::Tensor& source_) {
  check_unmerge(x_, source_);
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto x = x_.contiguous();
  const auto source = source_.contiguous();
  auto result = at::empty({x.size(0), source.size(1), x.size(2)}, x.options());
  const int64_t count = result.numel();
  if (count == 0) {
    return result;
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "unmerge", [&] {
    unmerge_kernel_impl<scalar_t>
        <<<static_cast<unsigned>(cuda::blocks_for(count)), cuda::kThreads, 0, stream>>>(
            x.const_data_ptr<scalar_t>(), source.const_data_ptr<int32_t>(), x.size(1),
            source.size(1), x.size(2), count, result.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("unmerge", &unmerge_kernel); }

}  // namespace dsm_ext
