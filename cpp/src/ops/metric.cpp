#include "metric.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor key_metric(const at::Tensor& keys) {
  return keys.mean({1}, /*keepdim=*/false, at::kFloat);
}

}  // namespace dsm_ext
