#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/preprocessing.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// Gives a config's fields, by name, the values of an object's.
/// \throws dsm_ext::Error for unknown fields and other types.
void set_fields(const std::string& path, const nlohmann::json& fields, Config& config);

/// \throws dsm_ext::Error for what `Config::validate` refuses.
void check(const std::string& path, const Config& config);

/// A schedule as Python's `Schedule.to_dict` gives it.
/// \throws dsm_ext::Error.
Schedule schedule_from(const std::string& path, const nlohmann::json& value);

/// What timm's `pretrained_cfg` says of pictures; what it leaves out is as in timm, and the size is
/// the model's own.
/// \throws dsm_ext::Error for other types, and what `Preprocessing::validate` refuses.
Preprocessing preprocessing_from(
    const std::string& path, const nlohmann::json& fields, const Config& config);

}  // namespace dsm_ext
