#pragma once

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Checks the arguments of `match`; every kernel calls it first. The CPU's kernel checks the values
/// of `order` itself.
void check_match(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& penalty);

}  // namespace dsm_ext
