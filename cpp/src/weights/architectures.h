#pragma once

#include <optional>
#include <string>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// What timm's architecture has that weights do not show, such as img_size, num_heads, eps and
/// rope_type. Other fields have their defaults.
/// \param name  timm's name of the architecture.
/// \return No value when timm has no such architecture or it is not supported.
std::optional<Config> architecture_config(const std::string& name);

/// The version of timm whose architectures are in the table.
std::string architectures_timm();

}  // namespace dsm_ext
