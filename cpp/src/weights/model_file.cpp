#include "model_file.h"

#include <filesystem>
#include <fstream>

#include "config_json.h"
#include "hub_config.h"
#include "json.h"
#include "safetensors.h"

namespace dsm_ext {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostConfig = 16'000'000;  // bytes; names of 21,841 classes take 2,000,000
constexpr int kMostDepth = 16;                // allows nested fields that are not read here
constexpr const char* kInMetadata = "config.json";

Json parse_config(const std::string& path, const std::string& text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  return parse_json(path, "it", bytes, bytes + text.size(), kMostDepth);
}

std::string read_config(const std::string& path) {
  const auto size = file_size(path);
  if (size > kMostConfig) {
    fail(path, "it has " + std::to_string(size) + " bytes");
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    fail(path, "it cannot be read");
  }
  return text;
}

// The names of the classes. The value is a list of names, or an object of names by index.
std::vector<std::string> names_in(const std::string& path, const Json& value) {
  if (!value.is_object()) {
    return *find_field<std::vector<std::string>>(path, {{"label_names", value}}, "label_names");
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < value.size(); ++i) {
    const auto name = find_field<std::string>(path, value, std::to_string(i));
    if (!name) {
      fail(path, "its 'label_names' have no name for class " + std::to_string(i));
    }
    names.push_back(*name);
  }
  return names;
}

// The names of the classes: timm's "label_names", which older versions of timm call "labels". When
// "label_descriptions" has a description of a name, the description is taken. As in timm, a field
// at the top level goes before the checkpoint's.
std::vector<std::string> labels_in(
    const std::string& path, const Json& json, const Json& pretrained, int64_t num_classes) {
  const auto holder = [&](const char* name) -> const Json& {
    return json.contains(name) && !json[name].is_null() ? json : pretrained;
  };
  std::vector<std::string> labels;
  for (const char* field : {"labels", "label_names"}) {
    if (const auto& in = holder(field); in.contains(field) && !in[field].is_null()) {
      labels = names_in(path, in[field]);
    }
  }
  const auto count = static_cast<int64_t>(labels.size());
  if (count != 0 && count != num_classes) {
    fail(
        path, "it has " + std::to_string(count) + " 'label_names' for " +
                  std::to_string(num_classes) + " classes");
  }
  const auto& descriptions = object_in(path, holder("label_descriptions"), "label_descriptions");
  for (auto& label : labels) {
    label = find_field<std::string>(path, descriptions, label).value_or(label);
  }
  return labels;
}

// The config in the section "dsm_ext", which `dsm-ext export` wrote.
Config own_config(const std::string& path, const Json& section) {
  check_keys(path, "section 'dsm_ext'", section, {"version", "config", "schedule", "precision"});
  const auto& fields = object_in(path, section, "config");
  for (const char* name : {"img_size", "num_heads", "eps", "act_layer", "global_pool"}) {
    if (!fields.contains(name)) {  // weights do not show it
      fail(path, std::string("its config has no field '") + name + "'");
    }
  }
  Config config;
  set_fields(path, fields, config);
  check(path, config);
  return config;
}

// The precision of the exported model, if one was chosen.
std::optional<Precision> precision_in(const std::string& path, const Json& section) {
  const auto name = find_field<std::string>(path, section, "precision");
  if (!name) {
    return std::nullopt;
  }
  for (const auto precision : {Precision::float32, Precision::bfloat16, Precision::int8}) {
    if (*name == to_string(precision)) {
      return precision;
    }
  }
  fail(path, "it has the unknown 'precision' " + quoted(*name));
}

// What a model's config.json and the weights of `weights_path` say about the model. The weights of
// a folder of the model hub get the names that timm loads them by.
ModelInfo info_from(
    const std::string& path, const Json& json, const std::string& weights_path,
    NamedTensors& weights) {
  const auto& own = object_in(path, json, "dsm_ext");
  const auto config = json.contains("dsm_ext") ? own_config(path, own)
                                               : hub_config(path, json, weights_path, weights);
  const auto classes = find_field<int64_t>(path, json, "num_classes");
  if (classes && *classes != config.num_classes) {
    fail(
        path, "it says 'num_classes' " + std::to_string(*classes) + ", but the model has " +
                  std::to_string(config.num_classes));
  }
  const auto depth = config.depth;
  if (depth > static_cast<int64_t>(weights.size())) {
    fail(
        weights_path, "it has " + std::to_string(weights.size()) + " tensors, too few for " +
                          std::to_string(depth) + " blocks");
  }
  const auto& pretrained = pretrained_in(path, json);
  return {
      find_field<std::string>(path, json, "architecture").value_or(""),
      config,
      own.contains("schedule") ? schedule_from(path, own["schedule"]) : Schedule::dsm(depth),
      preprocessing_from(path, pretrained, config),
      labels_in(path, json, pretrained, config.num_classes),
      {},
      precision_in(path, own)};
}

ModelFile open_model(
    const std::string& config_path, const std::string& text, const std::string& weights_path,
    NamedTensors weights) {
  const auto json = parse_config(config_path, text);
  auto info = info_from(config_path, json, weights_path, weights);
  info.config_json = text;
  const bool own_schedule = object_in(config_path, json, "dsm_ext").contains("schedule");
  return {config_path, weights_path, std::move(info), own_schedule, std::move(weights)};
}

}  // namespace

ModelFile open_model(const std::string& path, bool values) {
  std::error_code error;  // on an error, opening the path as a file says what is wrong
  if (!std::filesystem::is_directory(path, error)) {
    auto file = open_safetensors(path, values);
    const auto found = file.metadata.find(kInMetadata);
    if (found == file.metadata.end()) {
      fail(
          path,
          "its metadata has no config, as `dsm-ext export` writes it; a file of weights alone is "
          "loaded by its folder, with config.json beside it");
    }
    return open_model(path, found->second, path, std::move(file.tensors));
  }
  const auto config_path = (std::filesystem::path(path) / "config.json").string();
  const auto weights_path = (std::filesystem::path(path) / "model.safetensors").string();
  const auto text = read_config(config_path);
  return open_model(
      config_path, text, weights_path, open_safetensors(weights_path, values).tensors);
}

ModelInfo model_info(const std::string& path) { return open_model(path, /*values=*/false).info; }

}  // namespace dsm_ext
