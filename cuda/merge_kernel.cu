#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>

#include "dispatch.h"
#include "launch.cuh"
#include "merge.h"
#include "merge_kernel.cuh"

namespace dsm_ext {
namespace {

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
  cuda::check_device("merge");
  // Enough blocks for every multiprocessor, and at least a row for each warp.
  constexpr int64_t kWarps = cuda::kMergeThreads / 32;
  const int64_t wanted = 4 * cuda::attribute(cudaDevAttrMultiProcessorCount) / images;
  const int64_t slices = std::clamp<int64_t>(wanted, 1, (rows + kWarps - 1) / kWarps);
  const int64_t shared = cuda::merge_shared_bytes(tokens, (rows + slices - 1) / slices);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    const auto kernel = &cuda::merge_kernel_impl<scalar_t>;
    cuda::allow_shared("merge", kernel, shared, 0);
    kernel<<<static_cast<unsigned>(images * slices), cuda::kMergeThreads, shared, stream>>>(
        x.const_data_ptr<scalar_t>(), size.const_data_ptr<float>(),
        destination.const_data_ptr<int32_t>(), static_cast<int32_t>(tokens),
        static_cast<int32_t>(rows), channels, static_cast<int32_t>(slices),
        merged.mutable_data_ptr<scalar_t>(), merged_size.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {merged, merged_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("merge", &merge_kernel); }

}  // namespace dsm_ext
