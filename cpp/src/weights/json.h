#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace dsm_ext {

/// Throws dsm_ext::Error with the name of a file and what is wrong with the file.
[[noreturn]] void fail(const std::string& path, const std::string& fault);

/// The size of a file in bytes.
/// \throws dsm_ext::Error when the file does not exist or is not a regular file.
uint64_t file_size(const std::string& path);

/// Puts a name in quotes for a message. Cuts it after 100 bytes.
std::string quoted(const std::string& text);

/// Parses bytes of a file as a JSON object.
/// \param part        What messages call these bytes, for example "its header".
/// \param most_depth  How deep values may be nested.
/// \throws dsm_ext::Error for bytes that are not a JSON object, a key that is twice in an object,
/// and
///         deeper nesting.
nlohmann::json parse_json(
    const std::string& path, const char* part, const uint8_t* begin, const uint8_t* end,
    int most_depth);

/// Whether a JSON value has the type of a C++ value. An int64_t must be a count: not negative. An
/// enumerator must be a string.
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

/// Checks that an object in a file has no unknown key.
/// \param what  What the message calls the object.
/// \throws dsm_ext::Error that names the first unknown key.
void check_keys(
    const std::string& path, const char* what, const nlohmann::json& object,
    std::initializer_list<const char*> known);

/// The object in a field. An empty object when the field is missing or null.
/// \throws dsm_ext::Error when the field has another type.
const nlohmann::json& object_in(
    const std::string& path, const nlohmann::json& json, const char* name);

/// Gives the JSON of a value for a message. Cuts it after 100 bytes.
std::string shown(const nlohmann::json& value);

/// The value of a field of an object in a file. No value when the field is missing or null.
/// \throws dsm_ext::Error when the field has another type.
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
