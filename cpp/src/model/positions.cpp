#include "model/positions.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor resample_positions(
    const at::Tensor& pos_embed, const Config& config, std::array<int64_t, 2> grid) {
  if (grid == config.grid()) {
    return pos_embed;
  }
  const auto [gh, gw] = config.grid();
  const int64_t c = pos_embed.size(2), prefix = config.no_embed_class ? 0 : config.prefix();
  const auto own = pos_embed.narrow(1, prefix, gh * gw).to(at::kFloat);
  const auto picture = own.view({1, gh, gw, c}).permute({0, 3, 1, 2});
  const auto resampled = at::_upsample_bicubic2d_aa(picture, grid, /*align_corners=*/false);
  const auto rows = resampled.flatten(2).transpose(1, 2).to(pos_embed.scalar_type());
  return at::cat({pos_embed.narrow(1, 0, prefix), rows}, 1);
}

}  // namespace dsm_ext
