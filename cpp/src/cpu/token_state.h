#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// The tokens of some images between two blocks, and everything else that merging changes.
struct TokenState {
  float* tokens = nullptr;    // [images, count, C]
  float* size = nullptr;      // [images, count]: patches of each token; not set until `merged`
  float* bias = nullptr;      // [images, padded_tokens(count)]: attention's bias, see `fill_bias`
  int32_t* source = nullptr;  // [images, gh * gw]: index of the token that holds each patch
  int64_t count = 0;          // tokens of each image
  bool merged = false;        // whether any token stands for more than one patch
};

}  // namespace dsm_ext::cpu
