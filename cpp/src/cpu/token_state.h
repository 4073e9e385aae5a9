#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// The tokens of some images between two blocks, and everything else that merging changes.
struct TokenState {
  float* tokens = nullptr;    // [images, count, C]
  float* size = nullptr;      // [images, count]: patches of each token; not set until `merged`
  float* bias = nullptr;      // [images, padded_tokens(count)]: attention's bias, see `fill_bias`
  int32_t* source = nullptr;  // [images, gh * gw]: index of the token that holds each patch
  // Where the tokens are, [images, count, 2] (row, column) in patches. Not set until `merged`:
  // before, all images have the plan's locations.
  float* location = nullptr;
  // The tokens' rotations, [images, count, panels, 2 * kPairs], see `Rotation`. Not set until
  // `merged`, nor for `RopeType::mixed`, where each block has its own.
  float* rotation = nullptr;
  int64_t count = 0;    // tokens of each image
  bool merged = false;  // whether any token stands for more than one patch
};

}  // namespace dsm_ext::cpu
