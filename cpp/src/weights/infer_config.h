#pragma once

#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/weights.h"

namespace dsm_ext {

/// Gives the config of a timm Vision Transformer from the names and shapes of its weights.
/// \param path    The file of the weights, for messages.
/// \param config  Has the fields that weights do not show: those of the table in
///                architectures.json. They are kept, except that a model with the weights of an
///                attention pool gets `Pool::map`, and one with `rope.freqs` `RopeType::mixed`.
/// \throws dsm_ext::Error when a weight that every such model has is missing or has another rank.
Config infer_config(const std::string& path, const NamedTensors& weights, Config config);

}  // namespace dsm_ext
