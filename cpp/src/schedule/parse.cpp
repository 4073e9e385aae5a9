#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "dsm_ext/schedule.h"

// Parses texts of the form "name:key=value,key=value". Values are integers, with these exceptions:
// `inflection`, `protect` and `speedup` are numbers, `proportional` is true or false, `metric` is a
// name, and `r` of ToMe may be a list ("8/8/4"). The key of a first value may be left out where the
// builder has one main argument ("guided:1.7", "list:0/16w7/8").

namespace dsm_ext {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

// The arguments of a text, by name. Its errors quote the whole text.
class Arguments {
 public:
  /// \param main  The key of a first value without one; empty: every value needs its key.
  Arguments(
      const std::string& text, const std::vector<std::string>& allowed, const std::string& main)
      : text_(text) {
    const auto colon = text.find(':');
    if (colon == std::string::npos) {
      return;
    }
    for (auto part : split(std::string_view(text).substr(colon + 1), ',')) {
      if (!main.empty() && values_.empty() && part.find('=') == std::string::npos) {
        part.insert(0, main + "=");
      }
      const auto equals = part.find('=');
      TORCH_CHECK_VALUE(
          equals != std::string::npos, "dsm_ext.Schedule: expected key=value, got '", part,
          "' in '", text_, "'");
      const auto key = part.substr(0, equals);
      TORCH_CHECK_VALUE(
          std::find(allowed.begin(), allowed.end(), key) != allowed.end(),
          "dsm_ext.Schedule: expected one of ", c10::Join(", ", allowed), ", got '", key, "' in '",
          text_, "'");
      TORCH_CHECK_VALUE(
          values_.emplace(key, part.substr(equals + 1)).second, "dsm_ext.Schedule: expected ", key,
          " once, got it twice in '", text_, "'");
    }
  }

  const std::string* find(const std::string& key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : &it->second;
  }

  template <typename T>
  T number(const std::string& key, const std::string& value) const {
    T result{};
    const char* end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, result);
    TORCH_CHECK_VALUE(
        error == std::errc() && rest == end && !value.empty(), "dsm_ext.Schedule: expected ", key,
        " to be a number, got '", value, "' in '", text_, "'");
    return result;
  }

  std::optional<int64_t> integer(const std::string& key) const {
    const auto* value = find(key);
    return value ? std::optional(number<int64_t>(key, *value)) : std::nullopt;
  }

  std::optional<double> real(const std::string& key) const {
    const auto* value = find(key);
    return value ? std::optional(number<double>(key, *value)) : std::nullopt;
  }

  /// The rule that the arguments change in some fields.
  MergeRule rule(MergeRule rule) const {
    if (const auto* metric = find("metric")) {
      rule.metric = parse_merge_metric(*metric);
    }
    rule.protect = real("protect").value_or(rule.protect);
    return rule;
  }

  bool flag(const std::string& key, bool otherwise) const {
    const auto* value = find(key);
    TORCH_CHECK_VALUE(
        !value || *value == "true" || *value == "false", "dsm_ext.Schedule: expected ", key,
        " to be true or false, got '", *value, "' in '", text_, "'");
    return value ? *value == "true" : otherwise;
  }

 private:
  const std::string& text_;
  std::map<std::string, std::string> values_;
};

Schedule parse_tome(const Arguments& arguments, int64_t depth) {
  const auto* r = arguments.find("r");
  const auto* inflection = arguments.find("inflection");
  if (r && r->find('/') != std::string::npos) {
    TORCH_CHECK_VALUE(
        !inflection, "dsm_ext.Schedule: expected no inflection beside a list of r, got '",
        *inflection, "'");
    std::vector<int64_t> each;
    for (const auto& value : split(*r, '/')) {
      each.push_back(arguments.number<int64_t>("r", value));
    }
    return Schedule::tome(depth, each);
  }
  return Schedule::tome(
      depth, arguments.integer("r"),
      inflection ? arguments.number<double>("inflection", *inflection) : 0);
}

// A step of the text "R" (global) or "RwW" (local, in windows of side W).
Step parse_step(const Arguments& arguments, const std::string& text) {
  const auto w = text.find('w');
  const auto r = arguments.number<int64_t>("r", text.substr(0, w));
  return w == std::string::npos
             ? Step::global(r)
             : Step::local(r, arguments.number<int64_t>("window", text.substr(w + 1)));
}

// A list with an entry for each block, whose steps are joined by "+". Blocks after its end are
// dense.
Schedule parse_list(const Arguments& arguments, const std::string& text, int64_t depth) {
  const auto* list = arguments.find("r");
  TORCH_CHECK_VALUE(
      list, "dsm_ext.Schedule: expected list:R/R/..., such as list:0/16w7/8, got '", text, "'");
  std::vector<std::vector<Step>> blocks;
  for (const auto& entry : split(*list, '/')) {
    auto& steps = blocks.emplace_back();
    for (const auto& step : split(entry, '+')) {
      steps.push_back(parse_step(arguments, step));
    }
  }
  TORCH_CHECK_VALUE(
      static_cast<int64_t>(blocks.size()) <= depth,
      "dsm_ext.Schedule: expected at most depth = ", depth, " blocks, got ", blocks.size(), " in '",
      text, "'");
  blocks.resize(depth);
  return Schedule(std::move(blocks));
}

Schedule parse_guided(const Arguments& arguments, const std::string& text, const Config* config) {
  TORCH_CHECK_VALUE(
      config != nullptr, "dsm_ext.Schedule: expected a model's config to parse '", text,
      "', because its counts depend on the model, got only a depth");
  const auto speedup = arguments.real("speedup");
  TORCH_CHECK_VALUE(
      speedup, "dsm_ext.Schedule: expected guided:SPEEDUP, such as guided:1.7, got '", text, "'");
  return Schedule::guided(*config, *speedup);
}

Schedule parse_any(const std::string& text, int64_t depth, const Config* config) {
  static const std::map<std::string, std::vector<std::string>> allowed = {
      {"dense", {}},           {"dfe", {"r", "skip"}}, {"dsm", {"r", "skip", "local", "window"}},
      {"guided", {"speedup"}}, {"list", {"r"}},        {"tome", {"r", "inflection"}},
  };
  const auto name = text.substr(0, text.find(':'));
  const auto known = allowed.find(name);
  TORCH_CHECK_VALUE(
      known != allowed.end(),
      "dsm_ext.Schedule: expected dense, dfe, dsm, guided, list or tome, got '", name, "' in '",
      text, "'");
  auto keys = known->second;
  keys.insert(keys.end(), {"proportional", "metric", "protect"});
  const Arguments arguments(text, keys, name == "guided" ? "speedup" : (name == "list" ? "r" : ""));
  auto schedule = Schedule::dense(depth);
  if (name == "guided") {
    schedule = parse_guided(arguments, text, config);
  } else if (name == "list") {
    schedule = parse_list(arguments, text, depth);
  } else if (name == "tome") {
    schedule = parse_tome(arguments, depth);
  } else if (name == "dfe") {
    schedule = Schedule::dfe(depth, arguments.integer("r"), arguments.integer("skip"));
  } else if (name == "dsm") {
    schedule = Schedule::dsm(
        depth, arguments.integer("r"), arguments.integer("skip"), arguments.integer("local"),
        arguments.integer("window").value_or(7));
  }
  return schedule.with_proportional(arguments.flag("proportional", true))
      .with_rule(arguments.rule(schedule.rule()));
}

}  // namespace

Schedule Schedule::parse(const std::string& text, const Config& config) {
  return parse_any(text, config.depth, &config);
}

Schedule Schedule::parse(const std::string& text, int64_t depth) {
  return parse_any(text, depth, nullptr);
}

}  // namespace dsm_ext
