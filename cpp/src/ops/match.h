#pragma once

#include <algorithm>

#include "dsm_ext/ops.h"

namespace dsm_ext {

/// Every kernel of `match` calls this first. Values of `order` are checked by the kernel.
void check_match(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order);

/// Tokens that a window of `tokens` gives up when `r` are asked of it.
inline int64_t removed_from_window(int64_t tokens, int64_t r) { return std::min(r, tokens / 2); }

}  // namespace dsm_ext
