#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "check.h"
#include "dispatch.h"
#include "launch.cuh"
#include "rotate.h"
#include "rotate_kernel.cuh"

namespace dsm_ext {
namespace {

template <typename T>
cuda::TurnedHeads<T> heads_of(const at::Tensor& x) {
  return {
      x.mutable_data_ptr<T>(),
      x.stride(0),
      x.stride(1),
      x.stride(2),
      static_cast<int32_t>(x.size(1)),
      static_cast<int32_t>(x.size(2))};
}

void rotate_kernel(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& location_,
    const at::Tensor& frequencies_, at::ArrayRef<double> axes, int64_t first, int64_t prefix,
    bool halves) {
  check_rotate(q, k, location_, frequencies_, axes, first, prefix);
  check_dtype("_rotate_", "k", k, q.scalar_type());
  TORCH_CHECK_VALUE(
      q.stride(3) == 1 && k.stride(3) == 1,
      "dsm_ext._rotate_: expected the channels of a head to lie side by side");
  const c10::cuda::CUDAGuard guard(q.device());
  const auto location = location_.contiguous();
  // Learned frequencies have the dtype of the model.
  const bool plain = frequencies_.scalar_type() == at::kFloat;
  const auto frequencies = (plain ? frequencies_ : frequencies_.to(q.scalar_type())).contiguous();
  const int64_t images = k.size(0), pairs = k.size(3) / 2;
  const int64_t threads = images * cuda::kHeadGroups * (k.size(2) - prefix) * pairs;
  if (threads == 0) {
    return;
  }
  cuda::check_device("_rotate_");
  const cuda::RotationArguments how{
      .location = location.const_data_ptr<float>(),
      .location_stride = location.size(0) == 1 ? 0 : location.stride(0),
      .frequency_stride = frequencies.stride(0),
      .head_stride = frequencies.size(1) == 1 ? 0 : pairs,
      .scale = {static_cast<float>(axes[0]), static_cast<float>(axes[1])},
      .shift = {static_cast<float>(axes[2]), static_cast<float>(axes[3])},
      .first = static_cast<int32_t>(first),
      .prefix = static_cast<int32_t>(prefix),
      .pairs = static_cast<int32_t>(pairs),
      .halves = halves};
  const auto blocks = static_cast<unsigned>(cuda::blocks_for(threads));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(q.scalar_type(), "_rotate_", [&] {
    const auto own_q = heads_of<scalar_t>(q), own_k = heads_of<scalar_t>(k);
    if (plain) {
      cuda::rotate_kernel_impl<scalar_t, float><<<blocks, cuda::kThreads, 0, stream>>>(
          own_q, own_k, frequencies.const_data_ptr<float>(), how, threads);
    } else {
      cuda::rotate_kernel_impl<scalar_t, scalar_t><<<blocks, cuda::kThreads, 0, stream>>>(
          own_q, own_k, frequencies.const_data_ptr<scalar_t>(), how, threads);
    }
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("_rotate_", &rotate_kernel); }

}  // namespace dsm_ext
