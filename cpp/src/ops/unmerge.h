#pragma once

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Checks the arguments of `unmerge`; every kernel calls it first. The CPU's kernel checks the
/// values of `source` itself.
void check_unmerge(const at::Tensor& x, const at::Tensor& source);

}  // namespace dsm_ext
