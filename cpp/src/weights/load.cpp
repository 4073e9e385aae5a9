#include "dsm_ext/load.h"

#include <ATen/Functions.h>

#include <filesystem>
#include <fstream>

#include "dsm_ext/weights.h"
#include "json.h"

namespace dsm_ext {
namespace {

constexpr uint64_t kMostConfig = 1'000'000;  // bytes; a config has some thousand
constexpr int kMostDepth = 16;               // of what else may stand in it

nlohmann::json read_config(const std::string& path) {
  const auto size = file_size(path);
  if (size > kMostConfig) {
    fail(path, "it has " + std::to_string(size) + " bytes");
  }
  std::ifstream file(path, std::ios::binary);
  std::string content(size, '\0');
  if (!file.read(content.data(), static_cast<std::streamsize>(size))) {
    fail(path, "it cannot be read");
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(content.data());
  return parse_json(path, "it", bytes, bytes + size, kMostDepth);
}

VisionTransformer make(const std::string& path, const Config& config, const Schedule& schedule) {
  try {
    return VisionTransformer(config, schedule);
  } catch (const c10::Error& e) {
    fail(path, e.what_without_backtrace());
  }
}

}  // namespace

VisionTransformer load(
    const std::string& folder, const std::optional<std::string>& schedule,
    const LoadOptions& options) {
  const auto path = (std::filesystem::path(folder) / "config.json").string();
  const auto weights_path = (std::filesystem::path(folder) / "model.safetensors").string();
  const auto json = read_config(path);
  if (!json.contains("dsm_ext") || !json["dsm_ext"].is_object()) {
    fail(path, "there is no section 'dsm_ext'; `dsm-ext export` writes one");
  }
  const auto& section = json["dsm_ext"];
  if (!section.contains("config") || !section.contains("schedule")) {
    fail(path, "its section 'dsm_ext' lacks the config or the schedule");
  }
  const auto config = config_from(path, section["config"]);
  auto weights = read_safetensors(weights_path);
  for (auto& [name, tensor] : weights) {
    tensor = tensor.to(options.device, options.dtype.value_or(tensor.scalar_type()));
  }
  auto model = make(path, config, schedule_from(path, section["schedule"]));
  if (schedule) {
    model->set_schedule(Schedule::parse(*schedule, config.depth));
  }
  try {
    model->load_parameters(weights, options.check_finite);
  } catch (const c10::Error& e) {
    fail(weights_path, e.what_without_backtrace());
  }
  return model;
}

}  // namespace dsm_ext
