#include "config_json.h"

#include <c10/util/Exception.h>

#include <set>

#include "config/config_fields.h"
#include "json.h"

namespace dsm_ext {

using Json = nlohmann::json;

namespace {

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

void set_fields(const std::string& path, const Json& fields, Config& config) {
  if (!fields.is_object()) {
    fail(path, "its config is no object");
  }
  std::set<std::string> known;
  for_each_field(config, [&](const char* name, auto& value) {
    using Value = std::decay_t<decltype(value)>;
    known.insert(name);
    if (!fields.contains(name)) {
      return;
    }
    const auto& given = fields[name];
    if (!is<Value>(given)) {
      fail(path, "config field " + quoted(name) + " cannot be " + shown(given));
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
}

void check(const std::string& path, const Config& config) {
  try {
    config.validate();
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
}

// The merge rule of a schedule. A file without one has the default rule.
MergeRule rule_from(const std::string& path, const Json& schedule) {
  if (!schedule.contains("rule")) {
    return {};
  }
  const auto& value = field(path, schedule, "rule");
  const auto& metric = field(path, value, "metric");
  const auto& protect = field(path, value, "protect");
  check_keys(path, "rule", value, {"metric", "protect"});
  if (!metric.is_string() || !protect.is_number()) {
    fail(path, "the rule of its schedule needs a string 'metric' and a number 'protect'");
  }
  return {parse_merge_metric(metric.get<std::string>()), protect.get<double>()};
}

Schedule schedule_from(const std::string& path, const Json& value) {
  const auto& entries = field(path, value, "blocks");
  const auto& proportional = field(path, value, "proportional");
  if (!entries.is_array() || !proportional.is_boolean()) {
    fail(path, "its schedule needs a list 'blocks' and true or false for 'proportional'");
  }
  check_keys(path, "schedule", value, {"blocks", "proportional", "rule"});
  try {
    std::vector<std::vector<Step>> blocks;
    for (const auto& entry : entries) {
      auto& steps = blocks.emplace_back();
      if (!entry.is_array()) {
        fail(path, "a block of its schedule is no list of steps");
      }
      for (const auto& step : entry) {
        if (step.is_object() && step.contains("local")) {
          check_keys(path, "schedule", step, {"local", "window"});
          steps.push_back(Step::local(count(path, step, "local"), count(path, step, "window")));
        } else {
          steps.push_back(Step::global(count(path, step, "global")));
          check_keys(path, "schedule", step, {"global"});
        }
      }
    }
    return Schedule(std::move(blocks), proportional.get<bool>(), rule_from(path, value));
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
}

namespace {

// Whether a field is there and not null.
bool has(const Json& fields, const char* name) {
  return fields.contains(name) && !fields[name].is_null();
}

// Sets `value` to the enumerator that a field names. A missing field leaves it.
template <typename Enum>
void take(const std::string& path, const Json& fields, const char* name, Enum& value) {
  if (const auto given = find_field<std::string>(path, fields, name)) {
    value = value_of<Enum>(name, *given, "Preprocessing");
  }
}

// Sets `value` to a field's numbers, one for each channel. A single number holds for all channels.
// A missing field leaves `value`.
void take(
    const std::string& path, const Json& fields, const char* name, size_t channels,
    std::vector<double>& value) {
  if (auto given = find_field<std::vector<double>>(path, fields, name)) {
    value = given->size() == 1 ? std::vector(channels, given->front()) : std::move(*given);
  }
  if (value.size() != channels) {
    fail(
        path, quoted(name) + " has " + std::to_string(value.size()) + " channels, the model " +
                  std::to_string(channels));
  }
}

}  // namespace

Preprocessing preprocessing_from(
    const std::string& path, const Json& fields, const Config& config) {
  Preprocessing p;
  const auto channels = static_cast<size_t>(config.in_chans);
  p.size = config.img_size;
  const bool known = has(fields, "mean") || has(fields, "std");
  if (channels != p.mean.size()) {  // timm has usual values only for three channels
    p.mean.assign(channels, 0.5);
    p.std.assign(channels, 0.5);
  }
  take(path, fields, "mean", channels, p.mean);
  take(path, fields, "std", channels, p.std);
  p.crop_pct = find_field<double>(path, fields, "crop_pct").value_or(p.crop_pct);
  try {
    take(path, fields, "interpolation", p.interpolation);
    take(path, fields, "crop_mode", p.crop_mode);
    p.validate();
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
  if (!known) {
    p.mean.clear();
    p.std.clear();
  }
  return p;
}

}  // namespace dsm_ext
