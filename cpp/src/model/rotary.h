#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "dsm_ext/config.h"

// A rotary position embedding turns pairs of channels of queries and keys by angles that are linear
// in a token's location: angle = coordinate 0 * frequency 0 + coordinate 1 * frequency 1. So a
// merged token, whose location is a mean, has well-defined angles, too. Rotary embeddings of
// images: arXiv 2403.13298.

namespace dsm_ext {

/// Makes coordinates of locations, for one image size. Axis 0 is the rows, or the columns for
/// `GridIndexing::xy`.
struct RopeAxes {
  int64_t first = 0;  ///< Which part of a location is axis 0: 0 (the row) or 1 (the column).
  std::array<double, 2> scale = {1, 1}, shift = {0, 0};  ///< coordinate = location * scale + shift
};

/// The coordinates of a location (row, column).
inline std::array<float, 2> coordinates(const RopeAxes& axes, const float* location) {
  const auto at = [&](int axis, int64_t part) {
    return static_cast<float>(location[part] * axes.scale[axis] + axes.shift[axis]);
  };
  return {at(0, axes.first), at(1, 1 - axes.first)};
}

/// \param config  With the size of the images, and with a rotary embedding.
RopeAxes rope_axes(const Config& config);

/// The frequencies of `RopeType::cat` and `RopeType::dinov3`, by axis: [2, 1, D / 2] float32, where
/// each axis has zeros in the half of the other one.
at::Tensor rope_frequencies(const Config& config);

/// The locations of the tokens before any merging: (row, column) of a patch's centre in patches,
/// from the image's top left corner. Prefix tokens have NaN. [N, 2] float32.
at::Tensor initial_locations(const Config& config);

}  // namespace dsm_ext
