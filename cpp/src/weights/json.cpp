#include "json.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "dsm_ext/error.h"

namespace dsm_ext {

using Json = nlohmann::json;

void fail(const std::string& path, const std::string& fault) {
  std::string message = "dsm_ext: ";
  message += path;
  message += ": ";
  message += fault;
  throw Error(message);
}

uint64_t file_size(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    fail(path, "no such file");
  }
  if (!std::filesystem::is_regular_file(status)) {
    fail(path, "not a file");
  }
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    fail(path, error.message());
  }
  return size;
}

std::string quoted(const std::string& text) {
  constexpr size_t kMost = 100;
  size_t end = std::min(text.size(), kMost);
  while (end > 0 && end < text.size() && (text[end] & 0xC0) == 0x80) {
    --end;  // do not cut a UTF-8 character in two
  }
  std::string shown = "'";
  shown.append(text, 0, end);
  shown += end < text.size() ? "...'" : "'";
  return shown;
}

void check_keys(
    const std::string& path, const char* what, const Json& object,
    std::initializer_list<const char*> known) {
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      fail(path, std::string("its ") + what + " has a field " + quoted(name) + " that is unknown");
    }
  }
}

const Json& object_in(const std::string& path, const Json& json, const char* name) {
  static const Json none = Json::object();
  if (!json.contains(name) || json[name].is_null()) {
    return none;
  }
  if (!json[name].is_object()) {
    fail(path, "its " + quoted(name) + " is no object");
  }
  return json[name];
}

std::string shown(const Json& value) {
  const auto text = value.dump();
  return text.size() <= 100 ? text : quoted(text);
}

Json parse_json(
    const std::string& path, const char* part, const uint8_t* begin, const uint8_t* end,
    int most_depth) {
  const auto complain = [&](const std::string& fault) { fail(path, part + fault); };
  std::vector<std::set<std::string>> keys;  // the keys so far of each object that is still open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        complain(" has " + quoted(key) + " twice");
      }
    }
    if (depth > most_depth) {
      complain(" is nested deeper than " + std::to_string(most_depth));
    }
    return true;
  };
  try {
    auto json = Json::parse(begin, end, watch);
    if (!json.is_object()) {
      complain(" is no JSON object");
    }
    return json;
  } catch (const Json::exception& e) {
    std::string why = e.what();  // it may quote any bytes of the file
    std::replace_if(
        why.begin(), why.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
    complain(" is no JSON: " + why);
    throw;
  }
}

}  // namespace dsm_ext
