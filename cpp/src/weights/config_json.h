#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/preprocessing.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// Sets fields of a config to the values that a JSON object has for them. Missing fields stay as
/// they are.
/// \param path    The file of the object, for messages.
/// \param fields  The values by name. An enumerator is its name.
/// \throws dsm_ext::Error for an unknown field or a value of another type.
void set_fields(const std::string& path, const nlohmann::json& fields, Config& config);

/// Checks a config that was read from a file.
/// \throws dsm_ext::Error when `Config::validate` throws.
void check(const std::string& path, const Config& config);

/// Reads a schedule that Python's `Schedule.to_dict` wrote.
/// \throws dsm_ext::Error for an unknown or missing field, a value of another type, and a schedule
///         that the constructor refuses.
Schedule schedule_from(const std::string& path, const nlohmann::json& value);

/// Reads from timm's `pretrained_cfg` how to prepare pictures. Missing fields have timm's defaults,
/// except that `mean` and `std` are empty when both are missing. The size is the config's.
/// \throws dsm_ext::Error for a value of another type, and when `Preprocessing::validate` throws.
Preprocessing preprocessing_from(
    const std::string& path, const nlohmann::json& fields, const Config& config);

}  // namespace dsm_ext
