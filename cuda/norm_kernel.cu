#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "fused.h"
#include "launch.cuh"
#include "norm_kernel.cuh"
#include "packed_norm.h"

namespace dsm_ext {
namespace {

at::Tensor norm_kernel(
    const at::Tensor& x_, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    double eps, bool rms) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto x = cuda::packed(x_);
  auto out = at::empty_like(x);
  if (x.numel() == 0) {
    return out;
  }
  cuda::check_device("norm");
  const NormParameters norm{weight, bias.value_or(at::Tensor()), eps, rms};
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "norm", [&] {
    const cuda::PackedNorm<scalar_t> packed_norm(&norm);
    cuda::with_row_shape(channels, [&]<int kPack, int kSteps>() {
      cuda::norm_kernel_impl<scalar_t, kPack, kSteps>
          <<<static_cast<unsigned>(cuda::row_blocks(rows)), 32 * cuda::kRowWarps, 0, stream>>>(
              x.const_data_ptr<scalar_t>(), packed_norm.arguments, rows,
              static_cast<int32_t>(channels), out.mutable_data_ptr<scalar_t>());
    });
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("_norm", &norm_kernel); }

}  // namespace dsm_ext
