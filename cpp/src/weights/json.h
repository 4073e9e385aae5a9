#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "dsm_ext/config.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// What is wrong with a file: its name and the fault. Thrown by whoever looks into it.
[[noreturn]] void fail(const std::string& path, const std::string& fault);

/// The bytes of a file.
/// \throws dsm_ext::Error where there is none, or it is a directory or the like.
uint64_t file_size(const std::string& path);

/// A name as a message shows it: in quotes, cut where it is long.
std::string quoted(const std::string& text);

/// The JSON of a file's bytes: no key twice in an object, and nothing nested deeper.
/// \param part  Of the file, as messages call it: "its header".
/// \throws dsm_ext::Error.
nlohmann::json parse_json(
    const std::string& path, const char* part, const uint8_t* begin, const uint8_t* end,
    int most_depth);

/// A config's fields by name; those that are missing keep their defaults.
/// \throws dsm_ext::Error for unknown fields, other types, and what `Config::validate` refuses.
Config config_from(const std::string& path, const nlohmann::json& fields);

/// A schedule as Python's `Schedule.to_dict` gives it.
/// \throws dsm_ext::Error.
Schedule schedule_from(const std::string& path, const nlohmann::json& value);

}  // namespace dsm_ext
