#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// With antialiasing where a picture shrinks, as Pillow does.
enum class Interpolation { bicubic, bilinear };

/// How a picture of another aspect ratio fills the model's image: `center` scales its shorter side
/// and cuts the longer one, `squash` scales each side by itself, `border` scales the longer side
/// and fills up with the mean colour.
enum class CropMode { center, squash, border };

/// What a model wants done to a picture: timm's evaluation transform, by timm's names.
///
/// timm resizes with Pillow. Where Pillow takes rows first, then columns, as it always did before
/// version 13 and as is done here, no value is more than two of the 256 levels away, and nearly all
/// are equal. Pillow 13 takes columns first where that is less work: then some tenth of a picture's
/// values differ, seen by up to ten levels.
struct DSM_EXT_API Preprocessing {
  std::array<int64_t, 2> size = {224, 224};  ///< Height and width of the result.
  Interpolation interpolation = Interpolation::bicubic;
  double crop_pct = 0.875;  ///< The share of the scaled picture that the crop keeps.
  CropMode crop_mode = CropMode::center;
  /// Of each channel, on a scale of 0 to 1. `model_info` leaves both empty where the model's files
  /// do not say how its pictures were normalised: set them, or no picture is taken.
  std::vector<double> mean = {0.485, 0.456, 0.406};
  std::vector<double> std = {0.229, 0.224, 0.225};

  bool known() const { return !mean.empty() && !std.empty(); }

  /// \param picture  [height, width, channels] uint8 on the CPU, contiguous or not.
  /// \return [channels, size[0], size[1]] float32.
  /// \throws c10::ValueError where `mean` and `std` are not known, for another rank, an empty
  /// picture,
  ///         or other channels than `mean` has; c10::TypeError for another dtype.
  at::Tensor operator()(const at::Tensor& picture) const;

  /// \throws c10::ValueError naming the first field out of range.
  void validate() const;

  bool operator==(const Preprocessing&) const = default;
};

}  // namespace dsm_ext
