#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// How pixels are interpolated. A picture that shrinks is antialiased, as in Pillow.
enum class Interpolation { bicubic, bilinear };

/// How a picture of another aspect ratio fills the model's image. `center` scales the shorter side
/// to fit and crops the longer one. `squash` scales each side separately. `border` scales the
/// longer side to fit and fills the rest with the mean colour.
enum class CropMode { center, squash, border };

/// How to prepare a picture for a model: timm's evaluation transform, by timm's names.
///
/// timm resizes with Pillow, which rounds between rows and columns. This class resizes rows first.
/// All versions of Pillow before 13 also resize rows first: then nearly all values are equal to
/// timm's, and the others differ by at most two of 256 levels. Pillow 13 resizes columns first when
/// that is less work: then about a tenth of the values differ, by up to ten levels.
struct DSM_EXT_API Preprocessing {
  std::array<int64_t, 2> size = {224, 224};  ///< Height and width of the result.
  Interpolation interpolation = Interpolation::bicubic;
  double crop_pct = 0.875;  ///< The share of the scaled picture that the crop keeps.
  CropMode crop_mode = CropMode::center;
  /// Mean and standard deviation of each channel, on a scale of 0 to 1. `model_info` leaves both
  /// empty when the model's files do not say how pictures were normalised. The caller must then set
  /// both before preparing a picture.
  std::vector<double> mean = {0.485, 0.456, 0.406};
  std::vector<double> std = {0.229, 0.224, 0.225};

  /// Whether `mean` and `std` are known.
  bool known() const { return !mean.empty() && !std.empty(); }

  /// Prepares a picture.
  /// \param picture  [height, width, channels] uint8 on the CPU, contiguous or not.
  /// \return [channels, size[0], size[1]] float32 on the CPU.
  /// \throws c10::ValueError when `mean` and `std` are unknown or a field is out of range, and for
  ///         a picture that has another rank or number of channels, is empty, or is on another
  ///         device; c10::TypeError for another dtype.
  at::Tensor operator()(const at::Tensor& picture) const;

  /// \throws c10::ValueError that names the first field that is out of range.
  void validate() const;

  bool operator==(const Preprocessing&) const = default;
};

}  // namespace dsm_ext
