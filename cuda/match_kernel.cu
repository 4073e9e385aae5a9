#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <vector>

#include "dispatch.h"
#include "launch.cuh"
#include "match.h"
#include "match_kernel.cuh"

namespace dsm_ext {
namespace {

constexpr int64_t kTokenBytes = sizeof(double) + sizeof(float) + 2 * sizeof(int);
constexpr int64_t kSharedBytes = 48 * 1024;  // what every architecture has without asking

std::vector<cuda::GroupShape> make_groups(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows) {
  if (windows.empty()) {
    return {{0, tokens - prefix, r, prefix}};
  }
  std::vector<cuda::GroupShape> groups;
  int64_t begin = 0, base = prefix;
  for (const int64_t size : windows) {
    groups.push_back({begin, size, removed_from_window(size, r), base});
    begin += size;
    base += size - groups.back().r;
  }
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
  const auto groups = make_groups(tokens, r, prefix, windows);
  int64_t largest = 0;
  for (const auto& group : groups) {
    largest = std::max(largest, group.tokens);
  }
  const int64_t shared = largest * kTokenBytes;
  TORCH_CHECK_NOT_IMPLEMENTED(
      shared <= kSharedBytes, "dsm_ext.match: expected at most ", kSharedBytes / kTokenBytes,
      " tokens in a group on a GPU, got ", largest);

  auto destination = at::empty({images, tokens}, integers);
  // From pageable memory the copy is staged before the call returns: `groups` may go afterwards.
  const auto shapes =
      at::from_blob(
          const_cast<cuda::GroupShape*>(groups.data()),
          {static_cast<int64_t>(groups.size() * sizeof(cuda::GroupShape))}, at::kByte)
          .to(metric.device(), /*non_blocking=*/true);
  const auto rows = metric.contiguous();
  const auto places = order.has_value() ? order->contiguous() : at::Tensor();
  const auto count = static_cast<int64_t>(groups.size());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(rows.scalar_type(), "match", [&] {
    cuda::match_kernel_impl<scalar_t>
        <<<static_cast<unsigned>(images * count), cuda::kThreads, shared, stream>>>(
            rows.const_data_ptr<scalar_t>(),
            places.defined() ? places.const_data_ptr<int32_t>() : nullptr,
            static_cast<const cuda::GroupShape*>(shapes.const_data_ptr()), count, tokens, dim,
            prefix, windows.empty(), destination.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return destination;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("match", &match_kernel); }

}  // namespace dsm_ext
