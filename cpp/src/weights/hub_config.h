#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/weights.h"

namespace dsm_ext {

/// The config of a folder from timm's model hub.
/// \param path          The config.json, for messages.
/// \param json          Its content.
/// \param weights_path  The weight file, for messages.
/// \param weights       The weights by the file's names. They get the names that timm loads them
///                      by; tensors that timm passes over are removed.
/// \throws dsm_ext::Error when timm's architecture is not supported, a field has another type, or
///         the weights lack what every such model has.
Config hub_config(
    const std::string& path, const nlohmann::json& json, const std::string& weights_path,
    NamedTensors& weights);

/// The fields that describe the checkpoint. timm writes them in "pretrained_cfg". Older versions of
/// timm wrote them at the top level.
const nlohmann::json& pretrained_in(const std::string& path, const nlohmann::json& json);

}  // namespace dsm_ext
