#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "dsm_ext/error.h"
#include "dsm_ext/export.h"
#include "dsm_ext/preprocessing.h"
#include "dsm_ext/schedule.h"
#include "dsm_ext/vision_transformer.h"

namespace dsm_ext {

/// What stands beside a model's weights.
struct DSM_EXT_API ModelInfo {
  std::string architecture;  ///< timm's name, or "".
  Config config;
  Schedule schedule;                ///< The one that was exported, else `Schedule::dsm`.
  Preprocessing preprocessing;      ///< Its `known` is false where the files do not say.
  std::vector<std::string> labels;  ///< Of the classes, in their order; empty where none are given.
  std::string config_json;          ///< config.json as it stands.
};

/// What a model is, without making it.
///
/// \param path  A folder as the model hub lays it out: model.safetensors beside timm's config.json.
///              Or a single safetensors file that `dsm-ext export` wrote, which holds its config.
///              A folder that it wrote has a section "dsm_ext" in config.json, which is then taken;
///              in others the weights show the shape, and what they do not show, such as the
///              number of heads, is timm's for the architecture of that name.
/// \throws dsm_ext::Error naming the file and the fault: what `read_safetensors` refuses; a
///         config.json that is no JSON, or a field in it that is of another type or out of range,
///         or in the section "dsm_ext" unknown or missing; an architecture that is not supported.
DSM_EXT_API ModelInfo model_info(const std::string& path);

/// How `load` makes a model. Images must then be of this dtype, on this device.
struct LoadOptions {
  /// float32, bfloat16 or float16; none keeps the file's, which may be of any of the three.
  std::optional<at::ScalarType> dtype;
  at::Device device = at::kCPU;
  bool check_finite = false;  ///< Refuse NaN and infinity in the weights.
};

/// The model of a folder or file that `model_info` takes.
///
/// The weights are copied out of the file at once: it may be written over, cut short or deleted
/// afterwards.
///
/// \param schedule  As `Schedule::parse` takes it; none: that of `model_info`.
/// \throws dsm_ext::Error as `model_info`, and where the weights are not the config's.
/// \throws c10::ValueError for a schedule that cannot be parsed or does not fit the model, or for a
///         device without memory; c10::TypeError for another dtype.
DSM_EXT_API VisionTransformer load(
    const std::string& path, const std::optional<std::string>& schedule = std::nullopt,
    const LoadOptions& options = {});

struct DSM_EXT_API LoadedModel {
  VisionTransformer model;
  ModelInfo info;
};

/// `load` and `model_info` of one reading of the files.
DSM_EXT_API LoadedModel load_with_info(
    const std::string& path, const std::optional<std::string>& schedule = std::nullopt,
    const LoadOptions& options = {});

}  // namespace dsm_ext
