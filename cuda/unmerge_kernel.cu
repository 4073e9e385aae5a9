#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "launch.cuh"
#include "unmerge.h"
#include "unmerge_kernel.cuh"

namespace dsm_ext {
namespace {

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
  cuda::check_device("unmerge");
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "unmerge", [&] {
    cuda::unmerge_kernel_impl<scalar_t>
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
