#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "fused.h"
#include "launch.cuh"
#include "merge.h"
#include "merge_kernel.cuh"
#include "packed_norm.h"

namespace dsm_ext {
namespace {

template <typename T>
T* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

/// \param size  Undefined when every token stands for one patch.
/// \param norm  Null when no norm follows.
FusedMerge merge_rows(
    const at::Tensor& x_, const at::Tensor& size_, const at::Tensor& destination_, int64_t rows,
    const NormParameters* norm) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const int64_t images = x_.size(0), tokens = x_.size(1), channels = x_.size(2);
  const auto x = cuda::packed(x_);
  const auto size = size_.defined() ? size_.contiguous() : size_;
  const auto destination = destination_.contiguous();
  FusedMerge into;
  into.tokens = at::empty({images, rows, channels}, x.options());
  into.size = at::empty({images, rows}, x.options().dtype(at::kFloat));
  if (norm != nullptr) {
    into.normed = at::empty_like(into.tokens);
    into.log_size = at::empty({images, padded_bias(rows)}, x.options());
  }
  if (into.size.numel() == 0) {
    return into;
  }
  cuda::check_device("merge");
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    const cuda::PackedNorm<scalar_t> packed_norm(norm);
    const cuda::MergeInput<scalar_t> from{
        .x = x.const_data_ptr<scalar_t>(),
        .size = size.defined() ? size.const_data_ptr<float>() : nullptr,
        .destination = destination.const_data_ptr<int32_t>(),
        .images = static_cast<int32_t>(images),
        .tokens = static_cast<int32_t>(tokens),
        .rows = static_cast<int32_t>(rows),
        .channels = static_cast<int32_t>(channels)};
    const cuda::MergeOutput<scalar_t> to{
        .x = data<scalar_t>(into.tokens),
        .size = data<float>(into.size),
        .normed = data<scalar_t>(into.normed),
        .log_size = data<scalar_t>(into.log_size),
        .log_stride = static_cast<int32_t>(padded_bias(rows))};
    cuda::with_row_shape(channels, [&]<int kPack, int kSteps>() {
      cuda::merge_kernel_impl<scalar_t, kPack, kSteps>
          <<<static_cast<unsigned>(cuda::row_blocks(images * rows)), 32 * cuda::kRowWarps, 0,
             stream>>>(from, to, packed_norm.arguments);
    });
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return into;
}

std::tuple<at::Tensor, at::Tensor> merge_kernel(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t rows) {
  check_merge(x, size, destination, rows);
  auto merged = merge_rows(x, size, destination, rows, nullptr);
  return {merged.tokens, merged.size};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> merge_norm_kernel(
    const at::Tensor& x, const std::optional<at::Tensor>& size, const at::Tensor& destination,
    int64_t rows, const at::Tensor& weight, const std::optional<at::Tensor>& bias, double eps,
    bool rms) {
  const NormParameters norm{weight, bias.value_or(at::Tensor()), eps, rms};
  auto merged = merge_rows(x, size.value_or(at::Tensor()), destination, rows, &norm);
  return {merged.tokens, merged.normed, merged.size, merged.log_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) {
  m.impl("merge", &merge_kernel);
  m.impl("_merge_norm", &merge_norm_kernel);
}

}  // namespace dsm_ext
