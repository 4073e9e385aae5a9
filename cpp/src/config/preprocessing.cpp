#include "dsm_ext/preprocessing.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

// Sizes and offsets are rounded as in torchvision and timm: a half goes to the even integer.

namespace dsm_ext {
namespace {

using Size = std::array<int64_t, 2>;

constexpr int64_t kMostSide = 1 << 16;  // pixels

int64_t rounded(double value) { return std::llrint(value); }

// The height and width to which a picture is scaled before the crop.
Size scaled(const Preprocessing& p, Size picture) {
  const auto [height, width] = picture;
  const Size target = {
      static_cast<int64_t>(std::floor(p.size[0] / p.crop_pct)),
      static_cast<int64_t>(std::floor(p.size[1] / p.crop_pct))};
  if (p.crop_mode == CropMode::squash) {
    return target;
  }
  if (p.crop_mode == CropMode::center && target[0] == target[1]) {
    const int64_t shorter = std::min(height, width), longer = std::max(height, width);
    const auto other = static_cast<int64_t>(static_cast<double>(target[0] * longer) / shorter);
    return height <= width ? Size{target[0], other} : Size{other, target[0]};
  }
  const double by_height = static_cast<double>(height) / target[0];
  const double by_width = static_cast<double>(width) / target[1];
  const double ratio = p.crop_mode == CropMode::border ? std::max(by_height, by_width)
                                                       : std::min(by_height, by_width);
  return {rounded(height / ratio), rounded(width / ratio)};
}

at::Tensor resized(const at::Tensor& picture, Size size, Interpolation interpolation) {
  if (picture.size(2) == size[0] && picture.size(3) == size[1]) {
    return picture;
  }
  return interpolation == Interpolation::bicubic
             ? at::_upsample_bicubic2d_aa(picture, size, /*align_corners=*/false)
             : at::_upsample_bilinear2d_aa(picture, size, /*align_corners=*/false);
}

// Crops the middle of a picture. A picture that is smaller than the crop first gets a border of the
// colour `fill` [channels].
at::Tensor cropped(const at::Tensor& picture, Size size, const at::Tensor& fill) {
  auto x = picture;
  if (x.size(2) < size[0] || x.size(3) < size[1]) {
    const Size frame = {std::max(x.size(2), size[0]), std::max(x.size(3), size[1])};
    auto framed = fill.view({1, -1, 1, 1})
                      .expand({1, x.size(1), frame[0], frame[1]})
                      .clone(at::MemoryFormat::Contiguous);
    framed.narrow(2, (frame[0] - x.size(2)) / 2, x.size(2))
        .narrow(3, (frame[1] - x.size(3)) / 2, x.size(3))
        .copy_(x);
    x = framed;
  }
  const int64_t top = rounded((x.size(2) - size[0]) / 2.0);
  const int64_t left = rounded((x.size(3) - size[1]) / 2.0);
  return x.narrow(2, top, size[0]).narrow(3, left, size[1]);
}

}  // namespace

void Preprocessing::validate() const {
  for (const int64_t side : size) {
    TORCH_CHECK_VALUE(
        side > 0 && side <= kMostSide, "dsm_ext.Preprocessing: expected size to be in [1, ",
        kMostSide, "], got ", side);
  }
  TORCH_CHECK_VALUE(
      crop_pct >= 0.01 && crop_pct <= 100,
      "dsm_ext.Preprocessing: expected crop_pct to be in [0.01, 100], got ", crop_pct);
  TORCH_CHECK_VALUE(
      !mean.empty() && mean.size() == std.size(),
      "dsm_ext.Preprocessing: expected mean and std to have a number for each channel, got ",
      mean.size(), " and ", std.size());
  const auto finite = [](double value) { return std::isfinite(value); };
  TORCH_CHECK_VALUE(
      std::all_of(mean.begin(), mean.end(), finite),
      "dsm_ext.Preprocessing: expected mean to be finite");
  TORCH_CHECK_VALUE(
      std::all_of(std.begin(), std.end(), [&](double s) { return finite(s) && s > 0; }),
      "dsm_ext.Preprocessing: expected std to be positive and finite");
}

at::Tensor Preprocessing::operator()(const at::Tensor& picture) const {
  TORCH_CHECK_VALUE(
      known(),
      "dsm_ext.Preprocessing: the model's files do not say how its pictures were normalised; set "
      "mean and std");
  validate();
  TORCH_CHECK_VALUE(
      picture.dim() == 3 && picture.size(0) > 0 && picture.size(1) > 0,
      "dsm_ext.Preprocessing: expected picture to be [height, width, channels], got ",
      picture.sizes());
  TORCH_CHECK_VALUE(
      picture.size(2) == static_cast<int64_t>(mean.size()),
      "dsm_ext.Preprocessing: expected a picture of ", mean.size(), " channels, got ",
      picture.size(2));
  TORCH_CHECK_TYPE(
      picture.scalar_type() == at::kByte,
      "dsm_ext.Preprocessing: expected picture to be uint8, got ", picture.scalar_type());
  TORCH_CHECK_VALUE(
      picture.is_cpu(), "dsm_ext.Preprocessing: expected picture on the CPU, got ",
      picture.device());
  const at::NoGradGuard no_grad;
  const auto of_channels = [](const std::vector<double>& values) {
    return at::tensor(values, at::kFloat).view({-1, 1, 1});
  };
  const auto colour = crop_mode == CropMode::border ? of_channels(mean).mul(255).round()
                                                    : at::zeros({picture.size(2), 1, 1});
  const auto x = picture.permute({2, 0, 1}).unsqueeze(0);
  const Size sides = scaled(*this, {picture.size(0), picture.size(1)});
  for (const int64_t side : sides) {
    TORCH_CHECK_VALUE(
        side > 0 && side <= 16 * kMostSide, "dsm_ext.Preprocessing: a picture of ", picture.size(0),
        " x ", picture.size(1), " would be scaled to ", sides[0], " x ", sides[1]);
  }
  const auto crop =
      cropped(resized(x, sides, interpolation), size, colour.clamp(0, 255).to(at::kByte));
  return crop[0].to(at::kFloat).div_(255).sub_(of_channels(mean)).div_(of_channels(std));
}

}  // namespace dsm_ext
