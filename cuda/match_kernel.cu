#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "dispatch.h"
#include "fused.h"
#include "launch.cuh"
#include "match.h"
#include "match_launches.h"
#include "metric.h"

namespace dsm_ext {
namespace {

template <typename T, int kShare>
void launch(
    const cuda::Keys<T>& keys, int64_t images, int64_t tokens, int64_t prefix, bool global,
    const int32_t* order, const float* penalty, const cuda::Groups& groups, int32_t* destination) {
  const auto kernel = &cuda::match_kernel_impl<T, kShare>;
  const int64_t largest = cuda::largest_group(groups);
  const int64_t blocks = images * groups.count;
  const int64_t rows = cuda::match_row_bytes(largest, keys.channels);
  int64_t shared = cuda::match_shared_bytes(largest);
  at::Tensor spill;
  if (rows + shared <= cuda::attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
    shared += rows;
  } else {
    const auto options = at::TensorOptions(at::kCUDA).dtype(at::kByte);
    spill = at::empty({blocks, rows}, options);
  }
  cuda::allow_shared("match", kernel, shared);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  kernel<<<static_cast<unsigned>(blocks), cuda::kMatchThreads<kShare>, shared, stream>>>(
      keys, order, penalty, groups, tokens, prefix, global,
      spill.defined() ? static_cast<float*>(spill.mutable_data_ptr()) : nullptr,
      rows / static_cast<int64_t>(sizeof(float)), destination);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Whether every address of kChannels channels allows to read them at once.
bool can_pack(const at::Tensor& keys) {
  const auto fits = [](int64_t elements) { return elements % cuda::kChannels == 0; };
  const auto address = reinterpret_cast<uintptr_t>(keys.const_data_ptr());
  return address % (cuda::kChannels * keys.element_size()) == 0 && fits(keys.size(3)) &&
         fits(keys.stride(0)) && fits(keys.stride(1)) && fits(keys.stride(2));
}

/// \param keys  [B, H, N, D], whose channels lie side by side.
at::Tensor match_heads(
    const at::Tensor& keys, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty) {
  const c10::cuda::CUDAGuard guard(keys.device());
  const int64_t images = keys.size(0), tokens = keys.size(2);
  const auto integers = keys.options().dtype(at::kInt);
  if (r == 0 || images == 0) {
    return at::arange(tokens, integers).repeat({images, 1});
  }
  cuda::check_device("match");
  auto destination = at::empty({images, tokens}, integers);
  const auto places = order.has_value() ? order->contiguous() : at::Tensor();
  const auto penalties = penalty.has_value() ? penalty->contiguous() : at::Tensor();
  const bool packed = can_pack(keys);
  for (const auto& groups : cuda::match_launches(tokens, r, prefix, windows)) {
    DSM_EXT_DISPATCH(keys.scalar_type(), "match", [&] {
      const cuda::Keys<scalar_t> strided{
          .data = keys.const_data_ptr<scalar_t>(),
          .image = keys.stride(0),
          .head = keys.stride(1),
          .token = keys.stride(2),
          .heads = static_cast<int32_t>(keys.size(1)),
          .channels = static_cast<int32_t>(keys.size(3)),
          .packed = packed};
      const auto launch_groups =
          cuda::largest_group(groups) <= 64 ? &launch<scalar_t, 2> : &launch<scalar_t, 4>;
      launch_groups(
          strided, images, tokens, prefix, windows.empty(),
          places.defined() ? places.const_data_ptr<int32_t>() : nullptr,
          penalties.defined() ? penalties.const_data_ptr<float>() : nullptr, groups,
          destination.mutable_data_ptr<int32_t>());
    });
  }
  return destination;
}

at::Tensor match_kernel(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty) {
  check_match(metric, r, prefix, windows, order, penalty);
  return match_heads(metric.contiguous().unsqueeze(1), r, prefix, windows, order, penalty);
}

// The kernel itself takes the mean of the keys. A metric with tokens is made before it.
at::Tensor match_keys_kernel(
    const at::Tensor& keys, const std::optional<at::Tensor>& tokens, int64_t r, int64_t prefix,
    at::IntArrayRef windows, const std::optional<at::Tensor>& order,
    const std::optional<at::Tensor>& penalty) {
  if (tokens) {
    return match_heads(merge_metric(keys, tokens).unsqueeze(1), r, prefix, windows, order, penalty);
  }
  return match_heads(
      keys.stride(3) == 1 ? keys : keys.contiguous(), r, prefix, windows, order, penalty);
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) {
  m.impl("match", &match_kernel);
  m.impl("_match_keys", &match_keys_kernel);
}

}  // namespace dsm_ext
