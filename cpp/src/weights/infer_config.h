#pragma once

#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/weights.h"

namespace dsm_ext {

/// The shape of a timm Vision Transformer from the names and shapes of its weights.
/// \param path    The weights' file, for messages.
/// \param config  Holds what weights do not show and is kept: img_size, num_heads, eps, act_layer,
///                global_pool (but for attention pooling), pool_include_prefix, dynamic_img_size.
/// \throws dsm_ext::Error where a weight that every such model has is missing or of another rank.
Config infer_config(const std::string& path, const NamedTensors& weights, Config config);

}  // namespace dsm_ext
