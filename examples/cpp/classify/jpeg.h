#pragma once

#include <ATen/ATen.h>

#include <vector>

// Decodes a JPEG picture and turns it by its EXIF orientation, as a viewer does.
// channels: 1 for grey, 3 for RGB.
// Returns [height, width, channels] uint8. Throws std::runtime_error when the file is not a JPEG
// picture, is damaged or cut short, has CMYK colours or has too many pixels.
at::Tensor decode_jpeg(const std::vector<unsigned char>& bytes, int channels);
