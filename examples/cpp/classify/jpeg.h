#pragma once

#include <ATen/ATen.h>

#include <vector>

// A JPEG picture as a viewer shows it, turned as its EXIF orientation says:
// [height, width, channels] uint8, of 1 or 3 channels.
// Throws std::runtime_error where it cannot be decoded or is cut short.
at::Tensor decode_jpeg(const std::vector<unsigned char>& bytes, int channels);
