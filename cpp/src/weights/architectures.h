#pragma once

#include <optional>
#include <string>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// What timm's architecture of a name has that weights do not show: img_size, num_heads, eps,
/// act_layer, global_pool, pool_include_prefix and dynamic_img_size. None where there is no such
/// architecture, or it is not supported.
std::optional<Config> architecture_config(const std::string& name);

/// The version of timm that the table is of.
std::string architectures_timm();

}  // namespace dsm_ext
