#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dsm_ext {

/// What the tokens of a block are compared by.
/// \param keys    [B, H, N, D] float32, float16 or bfloat16.
/// \param tokens  [B, N, C] for `MergeMetric::keys_and_tokens`; none for `MergeMetric::keys`.
/// \return        [B, N, D] float32: the mean of the keys over the heads. With tokens [B, N, D +
/// C]:
///                this mean and the token, each of unit length. A row is zero when one of its parts
///                is of zero length or not finite.
at::Tensor merge_metric(const at::Tensor& keys, const std::optional<at::Tensor>& tokens);

}  // namespace dsm_ext
