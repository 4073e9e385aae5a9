#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

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

/// Whether a value is of a type: counts are not negative and fit int64_t; enumerators are strings.
template <typename Value>
bool is(const nlohmann::json& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_same_v<Value, double>) {
    return value.is_number();
  } else if constexpr (std::is_same_v<Value, int64_t>) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX;
  } else if constexpr (std::is_same_v<Value, std::string> || std::is_enum_v<Value>) {
    return value.is_string();
  } else {
    if (!value.is_array()) {
      return false;
    }
    if constexpr (requires { std::tuple_size<Value>::value; }) {
      if (value.size() != std::tuple_size<Value>::value) {
        return false;
      }
    }
    for (const auto& item : value) {
      if (!is<typename Value::value_type>(item)) {
        return false;
      }
    }
    return true;
  }
}

/// \throws dsm_ext::Error where an object in a file has another key than these.
void check_keys(
    const std::string& path, const char* what, const nlohmann::json& object,
    std::initializer_list<const char*> known);

/// A value for a message: as JSON, cut where it is long.
std::string shown(const nlohmann::json& value);

/// A field of an object in a file; none where it is missing or null.
/// \throws dsm_ext::Error where it is of another type.
template <typename Value>
std::optional<Value> find_field(
    const std::string& path, const nlohmann::json& object, const std::string& name) {
  if (!object.contains(name) || object[name].is_null()) {
    return std::nullopt;
  }
  if (!is<Value>(object[name])) {
    fail(path, quoted(name) + " cannot be " + shown(object[name]));
  }
  return object[name].template get<Value>();
}

}  // namespace dsm_ext
