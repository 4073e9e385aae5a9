#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "product.h"

namespace dsm_ext::cpu {

/// Finds a parameter by timm's name.
using Parameter = std::function<at::Tensor(const std::string&)>;

struct Norm {
  at::Tensor weight, bias;  // [C]
};

struct BlockWeights {
  Norm norm1, norm2;
  Panels qkv;  // [3 * C, C]: queries scaled by 1 / sqrt(D), keys, values
  Panels proj, fc1, fc2;
};

/// A model's weights in the form that the CPU path reads. Copies: what the parameters become
/// afterwards does not reach them.
struct Weights {
  Weights(const Config& config, const Parameter& parameter);

  Panels patch_embed;    // [C, in_chans * ph * pw]
  at::Tensor positions;  // [gh * gw, C]
  at::Tensor prefix;     // [P, C], with their positions
  std::vector<BlockWeights> blocks;
  Norm norm;
  Panels head;  // [num_classes, P * C]: with two tokens, the mean of their heads
};

}  // namespace dsm_ext::cpu
