#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <vector>

#include "../match.h"
#include "matcher.h"

namespace dsm_ext {
namespace {

// `order` as a vector. The matcher uses its values as indices, so it must be a permutation.
std::vector<int32_t> window_order(const std::optional<at::Tensor>& order) {
  if (!order.has_value()) {
    return {};
  }
  const auto contiguous = order->contiguous();
  const auto* values = contiguous.const_data_ptr<int32_t>();
  const int64_t tokens = order->numel();
  std::vector<char> seen(tokens, 0);
  for (int64_t i = 0; i < tokens; ++i) {
    TORCH_CHECK_VALUE(
        values[i] >= 0 && values[i] < tokens && !seen[values[i]],
        "dsm_ext.match: expected order to be a permutation of [0, ", tokens, "), got ", values[i],
        " at ", i);
    seen[values[i]] = 1;
  }
  return {values, values + tokens};
}

at::Tensor match_kernel(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty) {
  check_match(metric, r, prefix, windows, order, penalty);
  if (r == 0) {
    const auto identity = at::arange(metric.size(1), metric.options().dtype(at::kInt));
    return identity.repeat({metric.size(0), 1});
  }
  const int64_t images = metric.size(0), tokens = metric.size(1), dim = metric.size(2);
  auto destination = at::empty({images, tokens}, metric.options().dtype(at::kInt));
  const auto groups = match_groups(tokens, r, prefix, windows.vec(), window_order(order));
  const auto rows = metric.to(at::kFloat).contiguous();
  const auto* data = rows.const_data_ptr<float>();
  const auto penalties = penalty ? penalty->contiguous() : at::Tensor();
  const auto* penalty_data = penalty ? penalties.const_data_ptr<float>() : nullptr;
  auto* out = destination.mutable_data_ptr<int32_t>();
  const auto count = static_cast<int64_t>(groups.size());

  at::parallel_for(0, images * count, 1, [&](int64_t begin, int64_t end) {
    Matcher matcher;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / count;
      int32_t* image_out = out + image * tokens;
      if (task % count == 0) {
        for (int64_t n = 0; n < prefix; ++n) {
          image_out[n] = static_cast<int32_t>(n);
        }
      }
      const auto unit_row = [&](int64_t token, float* unit) {
        return scaled_row(data + (image * tokens + token) * dim, dim, 1, unit);
      };
      matcher(
          unit_row, dim, groups[task % count], penalty ? penalty_data + image * tokens : nullptr,
          image_out);
    }
  });
  return destination;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("match", &match_kernel); }

}  // namespace dsm_ext
