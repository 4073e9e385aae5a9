#include "json.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <set>

#include "../model/config_fields.h"
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
  std::string shown = "'";
  shown.append(text, 0, kMost);
  shown += text.size() > kMost ? "...'" : "'";
  return shown;
}

Json parse_json(
    const std::string& path, const char* part, const uint8_t* begin, const uint8_t* end,
    int most_depth) {
  const auto complain = [&](const std::string& fault) { fail(path, part + fault); };
  std::vector<std::set<std::string>> keys;  // of the objects that are open
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
    complain(" is no JSON: " + std::string(e.what()));
    throw;
  }
}

namespace {

template <typename Value>
bool is(const Json& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_same_v<Value, double>) {
    return value.is_number();
  } else if constexpr (std::is_same_v<Value, int64_t>) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX;
  } else if constexpr (std::is_enum_v<Value>) {
    return value.is_string();
  } else {
    return value.is_array() && value.size() == 2 && is<int64_t>(value[0]) && is<int64_t>(value[1]);
  }
}

const Json& field(const std::string& path, const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) {
    fail(path, "there is no " + quoted(name));
  }
  return object[name];
}

int64_t count(const std::string& path, const Json& object, const char* name) {
  const auto& value = field(path, object, name);
  if (!is<int64_t>(value)) {
    fail(path, quoted(name) + " is no count");
  }
  return value.get<int64_t>();
}

}  // namespace

Config config_from(const std::string& path, const Json& fields) {
  if (!fields.is_object()) {
    fail(path, "its config is no object");
  }
  Config config;
  std::set<std::string> known;
  for_each_field(config, [&](const char* name, auto& value) {
    using Value = std::decay_t<decltype(value)>;
    known.insert(name);
    if (!fields.contains(name)) {
      return;
    }
    const auto& given = fields[name];
    if (!is<Value>(given)) {
      fail(path, "config field " + quoted(name) + " cannot be " + given.dump());
    }
    try {
      if constexpr (std::is_enum_v<Value>) {
        value = value_of<Value>(name, given.get<std::string>());
      } else {
        value = given.get<Value>();
      }
    } catch (const c10::Error& e) {
      fail(path, e.what_without_backtrace());
    }
  });
  for (const auto& [name, value] : fields.items()) {
    if (known.count(name) == 0) {
      fail(path, "no config field is named " + quoted(name));
    }
  }
  try {
    config.validate();
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
  return config;
}

Schedule schedule_from(const std::string& path, const Json& value) {
  const auto& entries = field(path, value, "blocks");
  const auto& proportional = field(path, value, "proportional");
  if (!entries.is_array() || !proportional.is_boolean()) {
    fail(path, "its schedule is no list of blocks with a switch");
  }
  try {
    std::vector<std::vector<Step>> blocks;
    for (const auto& entry : entries) {
      auto& steps = blocks.emplace_back();
      if (!entry.is_array()) {
        fail(path, "a block of its schedule is no list of steps");
      }
      for (const auto& step : entry) {
        if (step.is_object() && step.contains("local")) {
          steps.push_back(Step::local(count(path, step, "local"), count(path, step, "window")));
        } else {
          steps.push_back(Step::global(count(path, step, "global")));
        }
      }
    }
    return Schedule(std::move(blocks), proportional.get<bool>());
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
}

}  // namespace dsm_ext
