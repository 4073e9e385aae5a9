#include "model/rotary.h"

#include <ATen/Functions.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace dsm_ext {

RopeAxes rope_axes(const Config& config) {
  RopeAxes axes;
  axes.first = config.rope_grid_indexing == GridIndexing::xy ? 1 : 0;
  for (const int64_t axis : {0, 1}) {
    const int64_t part = axis == 0 ? axes.first : 1 - axes.first;
    const auto length = static_cast<double>(config.grid()[part]);
    const auto reference = static_cast<double>(config.ref_feat_shape[part]);
    auto &scale = axes.scale[axis], &shift = axes.shift[axis];
    switch (config.rope_type) {
      case RopeType::dinov3:  // the centres of an image's patches lie between -1 and 1
        scale = 2 / length;
        shift = config.rope_grid_offset * scale - 1;
        break;
      case RopeType::cat:  // patches are counted from 0
        scale = reference > 0 ? reference / length : 1;
        shift = (config.rope_grid_offset - 0.5) * scale;
        break;
      case RopeType::mixed:
      case RopeType::none:
        shift = -0.5;
    }
  }
  return axes;
}

at::Tensor rope_frequencies(const Config& config) {
  const int64_t count = config.head_dim() / 4;
  auto frequencies = at::zeros({2, 1, 2 * count}, at::TensorOptions().dtype(at::kFloat));
  auto* values = frequencies.mutable_data_ptr<float>();
  const double turn = config.rope_type == RopeType::dinov3 ? 2 * std::numbers::pi : 1;
  for (int64_t i = 0; i < count; ++i) {
    const double exponent = static_cast<double>(i) / static_cast<double>(count);
    const auto frequency = static_cast<float>(turn / std::pow(config.rope_temperature, exponent));
    values[i] = frequency;
    values[3 * count + i] = frequency;
  }
  return frequencies;
}

at::Tensor initial_locations(const Config& config) {
  const auto [gh, gw] = config.grid();
  const int64_t prefix = config.prefix();
  auto locations = at::full(
      {config.tokens(), 2}, std::numeric_limits<float>::quiet_NaN(),
      at::TensorOptions().dtype(at::kFloat));
  auto* values = locations.mutable_data_ptr<float>() + 2 * prefix;
  for (int64_t i = 0; i < gh * gw; ++i) {
    values[2 * i] = static_cast<float>(i / gw) + 0.5f;
    values[2 * i + 1] = static_cast<float>(i % gw) + 0.5f;
  }
  return locations;
}

}  // namespace dsm_ext
