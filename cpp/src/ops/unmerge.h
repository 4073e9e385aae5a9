#pragma once

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Every kernel of `unmerge` calls this first. Values of `source` are checked by the kernel.
void check_unmerge(const at::Tensor& x, const at::Tensor& source);

}  // namespace dsm_ext
