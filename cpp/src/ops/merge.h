#pragma once

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Every kernel of `merge` calls this first. Values of `destination` are checked by the kernel.
void check_merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens);

}  // namespace dsm_ext
