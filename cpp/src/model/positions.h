#pragma once

#include <array>

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// Resamples a position embedding for another image size, as timm does.
/// \param pos_embed  [1, N, C], or [1, gh * gw, C] with `no_embed_class`, for the config's grid.
/// \param grid       gh and gw for the other image size.
/// \return           The same for `grid`; `pos_embed` itself when the grids are equal.
at::Tensor resample_positions(
    const at::Tensor& pos_embed, const Config& config, std::array<int64_t, 2> grid);

}  // namespace dsm_ext
