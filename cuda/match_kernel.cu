#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "launch.cuh"
#include "match.h"
#include "match_groups.h"

namespace dsm_ext {
namespace {

// The groups as a kernel takes them; where they are many, `more` keeps them on the device.
cuda::Groups groups_on(
    const at::Device& device, const std::vector<cuda::GroupShape>& shapes, at::Tensor& more) {
  cuda::Groups groups{};
  groups.count = static_cast<int32_t>(shapes.size());
  if (shapes.size() <= cuda::Groups::kHeld) {
    std::copy(shapes.begin(), shapes.end(), groups.held);
    return groups;
  }
  const auto bytes = static_cast<int64_t>(shapes.size() * sizeof(cuda::GroupShape));
  // From pageable memory the copy is staged before the call returns: `shapes` may go afterwards.
  more = at::from_blob(const_cast<cuda::GroupShape*>(shapes.data()), {bytes}, at::kByte)
             .to(device, /*non_blocking=*/true);
  groups.more = static_cast<const cuda::GroupShape*>(more.const_data_ptr());
  return groups;
}

at::Tensor match_kernel(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order) {
  check_match(metric, r, prefix, windows, order);
  const c10::cuda::CUDAGuard guard(metric.device());
  const int64_t images = metric.size(0), tokens = metric.size(1), dim = metric.size(2);
  const auto integers = metric.options().dtype(at::kInt);
  if (r == 0 || images == 0) {
    return at::arange(tokens, integers).repeat({images, 1});
  }
  cuda::check_device("match");
  const auto shapes = cuda::match_groups(tokens, r, prefix, windows);
  const auto largest = std::max_element(
      shapes.begin(), shapes.end(),
      [](const auto& one, const auto& other) { return one.tokens < other.tokens; });
  const int64_t shared = cuda::match_shared_bytes(largest->tokens);

  auto destination = at::empty({images, tokens}, integers);
  at::Tensor more;
  const auto groups = groups_on(metric.device(), shapes, more);
  const auto rows = metric.contiguous();
  const auto places = order.has_value() ? order->contiguous() : at::Tensor();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(rows.scalar_type(), "match", [&] {
    const auto kernel = &cuda::match_kernel_impl<scalar_t>;
    cuda::allow_shared("match", kernel, shared, cuda::kMatchStaticBytes);
    kernel<<<static_cast<unsigned>(images * groups.count), cuda::kMatchThreads, shared, stream>>>(
        rows.const_data_ptr<scalar_t>(),
        places.defined() ? places.const_data_ptr<int32_t>() : nullptr, groups, tokens, dim, prefix,
        windows.empty(), destination.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return destination;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("match", &match_kernel); }

}  // namespace dsm_ext
