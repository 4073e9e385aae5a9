#include "metric.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor merge_metric(const at::Tensor& keys, const std::optional<at::Tensor>& tokens) {
  const auto mean = keys.mean({1}, /*keepdim=*/false, at::kFloat);
  if (!tokens) {
    return mean;
  }
  // The lengths are float64: there the squares of finite rows neither overflow nor vanish.
  const auto length = [](const at::Tensor& x) {
    return at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true, at::kDouble);
  };
  const auto wide = tokens->to(at::kFloat);
  const auto of_mean = length(mean), of_token = length(wide);
  const auto usable = at::isfinite(of_mean)
                          .logical_and_(at::isfinite(of_token))
                          .logical_and_(of_mean.gt(0))
                          .logical_and_(of_token.gt(0));
  const auto rows = at::cat({mean.div(of_mean), wide.div(of_token)}, 2).to(at::kFloat);
  return at::where(usable, rows, at::zeros({}, rows.options()));
}

}  // namespace dsm_ext
