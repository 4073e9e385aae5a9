#include "patches.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor empty_patches(const Config& config, int64_t images, const at::TensorOptions& options) {
  const auto [ph, pw] = config.patch_size;
  return at::empty({images, config.patches(), config.in_chans * ph * pw}, options);
}

void copy_patches(const at::Tensor& images, const Config& config, const at::Tensor& patches) {
  const auto [gh, gw] = config.grid();
  const auto [ph, pw] = config.patch_size;
  patches.view({images.size(0), gh, gw, config.in_chans, ph, pw})
      .copy_(images.narrow(2, 0, gh * ph)
                 .narrow(3, 0, gw * pw)
                 .unflatten(2, {gh, ph})
                 .unflatten(4, {gw, pw})
                 .permute({0, 2, 4, 1, 3, 5}));
}

}  // namespace dsm_ext
