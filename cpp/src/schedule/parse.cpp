#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "dsm_ext/schedule.h"

// Parses texts of the form "name:key=value,key=value". Values are integers, with three exceptions:
// `inflection` is a number, `proportional` is true or false, and `r` of ToMe may be a list
// ("8/8/4").

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
  Arguments(const std::string& text, const std::vector<std::string>& allowed) : text_(text) {
    const auto colon = text.find(':');
    if (colon == std::string::npos) {
      return;
    }
    for (const auto& part : split(std::string_view(text).substr(colon + 1), ',')) {
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

}  // namespace

Schedule Schedule::parse(const std::string& text, int64_t depth) {
  static const std::map<std::string, std::vector<std::string>> allowed = {
      {"dense", {"proportional"}},
      {"dfe", {"r", "skip", "proportional"}},
      {"dsm", {"r", "skip", "local", "window", "proportional"}},
      {"tome", {"r", "inflection", "proportional"}},
  };
  const auto name = text.substr(0, text.find(':'));
  const auto known = allowed.find(name);
  TORCH_CHECK_VALUE(
      known != allowed.end(), "dsm_ext.Schedule: expected dense, dfe, dsm or tome, got '", name,
      "' in '", text, "'");
  const Arguments arguments(text, known->second);
  auto schedule = dense(depth);
  if (name == "tome") {
    schedule = parse_tome(arguments, depth);
  } else if (name == "dfe") {
    schedule = dfe(depth, arguments.integer("r"), arguments.integer("skip"));
  } else if (name == "dsm") {
    schedule =
        dsm(depth, arguments.integer("r"), arguments.integer("skip"), arguments.integer("local"),
            arguments.integer("window").value_or(7));
  }
  return schedule.with_proportional(arguments.flag("proportional", true));
}

}  // namespace dsm_ext
