#include "match.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

#include "check.h"
#include "groups.h"

namespace dsm_ext {

void check_match(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty) {
  check_dim("match", "metric", metric, "[B, N, D]");
  check_floating("match", "metric", metric);
  check_no_grad("match", "metric", metric);
  const int64_t tokens = metric.size(1);
  TORCH_CHECK_VALUE(
      prefix >= 0 && prefix <= tokens, "dsm_ext.match: expected prefix to be in [0, ", tokens,
      "], got ", prefix);
  int64_t most = (tokens - prefix) / 2;
  if (!windows.empty()) {
    TORCH_CHECK_VALUE(
        std::all_of(
            windows.begin(), windows.end(), [&](int64_t t) { return t >= 0 && t <= tokens; }),
        "dsm_ext.match: expected windows to be in [0, ", tokens, "], got ", windows);
    const int64_t sum = std::accumulate(windows.begin(), windows.end(), int64_t{0});
    TORCH_CHECK_VALUE(
        sum == tokens - prefix,
        "dsm_ext.match: expected windows to add up to N - prefix = ", tokens - prefix, ", got ",
        windows, ", which add up to ", sum);
    most = most_removed(std::span(windows.data(), windows.size()));
  }
  TORCH_CHECK_VALUE(
      r >= 0 && r <= most, "dsm_ext.match: expected r to be in [0, ", most, "], got ", r);
  if (order.has_value()) {
    TORCH_CHECK_VALUE(!windows.empty(), "dsm_ext.match: expected windows beside order, got none");
    check_shape("match", "order", *order, {tokens - prefix});
    check_dtype("match", "order", *order, at::kInt);
    check_same_device("match", "order", *order, metric);
  }
  if (penalty.has_value()) {
    check_shape("match", "penalty", *penalty, {metric.size(0), tokens});
    check_dtype("match", "penalty", *penalty, at::kFloat);
    check_same_device("match", "penalty", *penalty, metric);
    check_no_grad("match", "penalty", *penalty);
  }
}

at::Tensor match(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("dsm_ext::match", "").typed<decltype(match)>();
  return op.call(metric, r, prefix, windows, order, penalty);
}

TORCH_LIBRARY_FRAGMENT(dsm_ext, m) {
  m.def(
      "match(Tensor metric, int r, int prefix=0, int[] windows=[], Tensor? order=None, "
      "Tensor? penalty=None) -> Tensor");
}

}  // namespace dsm_ext
