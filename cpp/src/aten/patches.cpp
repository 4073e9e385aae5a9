#include "aten/patches.h"

#include <ATen/Functions.h>

namespace dsm_ext::aten {

at::Tensor empty_patches(const Config& config, int64_t images, const at::TensorOptions& options) {
  const auto [ph, pw] = config.patch_size;
  return at::empty({images, config.patches(), config.in_chans * ph * pw}, options);
}

void copy_patches(const at::Tensor& images, const Config& config, const at::Tensor& patches) {
  const auto [gh, gw] = config.grid();
  const auto [ph, pw] = config.patch_size;
  const at::DimVector shape = {images.size(0), gh, gw, config.in_chans, ph, pw};
  const auto s = images.strides();
  patches.view(shape).copy_(
      images.as_strided(shape, {s[0], ph * s[2], pw * s[3], s[1], s[2], s[3]}));
}

at::Tensor cut_into_patches(const at::Tensor& images, const Config& config) {
  auto patches = empty_patches(config, images.size(0), images.options());
  copy_patches(images, config, patches);
  return patches;
}

}  // namespace dsm_ext::aten
