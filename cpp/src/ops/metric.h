#pragma once

#include <ATen/core/Tensor.h>

namespace dsm_ext {

/// The metric `MergeMetric::keys`: the mean of the keys over the heads.
/// \param keys  [B, H, N, D] float32, float16 or bfloat16.
/// \return      [B, N, D] float32.
at::Tensor key_metric(const at::Tensor& keys);

}  // namespace dsm_ext
