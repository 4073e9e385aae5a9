#pragma once

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Checks the arguments of `merge`; every kernel calls it first. The CPU's kernel checks the values
/// of `destination` itself.
void check_merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens);

}  // namespace dsm_ext
