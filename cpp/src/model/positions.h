#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// A model's position embedding for another image size, as timm resamples it.
/// \param pos_embed  [1, N or gh * gw, C] for `config`'s own size.
/// \param grid       The other size's gh and gw.
/// \return           [1, N or gh * gw of the other size, C]; `pos_embed` itself where they agree.
at::Tensor resample_positions(
    const at::Tensor& pos_embed, const Config& config, std::array<int64_t, 2> grid);

}  // namespace dsm_ext
