#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "dsm_ext/error.h"
#include "dsm_ext/export.h"
#include "dsm_ext/precision.h"
#include "dsm_ext/preprocessing.h"
#include "dsm_ext/schedule.h"
#include "dsm_ext/vision_transformer.h"

namespace dsm_ext {

/// What the files of a model say beside its weights.
struct DSM_EXT_API ModelInfo {
  std::string architecture;  ///< timm's name of the architecture, or "".
  Config config;
  Schedule schedule;                   ///< The exported schedule, or `Schedule::dsm`.
  Preprocessing preprocessing;         ///< Not `known` when the files have no mean and std.
  std::vector<std::string> labels;     ///< The names of the classes in their order, or empty.
  std::string config_json;             ///< The text of config.json.
  std::optional<Precision> precision;  ///< The exported model's, if one was chosen.
};

/// Reads what a model's files say about the model. Makes no model and reads no weights.
///
/// The config comes from the section "dsm_ext" of config.json, which `dsm-ext export` writes. When
/// config.json has no such section, the names and shapes of the weights give the config, and timm's
/// architecture of the given name gives what weights do not show, such as the number of heads.
///
/// \param path  A folder with model.safetensors and timm's config.json, as the model hub has it, or
///              as `dsm-ext export` wrote it. Or a single safetensors file that `dsm-ext export`
///              wrote: it holds its config.json.
/// \throws dsm_ext::Error that names the file and the fault: a file that `read_safetensors` does
///         not accept; a config.json that is not JSON, or has a field of another type or out of
///         range; a field that is unknown or missing in the section "dsm_ext"; an architecture that
///         is not supported.
DSM_EXT_API ModelInfo model_info(const std::string& path);

/// How `load` makes a model. The model takes images of the same dtype on the same device.
struct LoadOptions {
  /// float32, bfloat16 or float16. Without a value the weights keep the dtype of the file, which
  /// must be one of the three.
  std::optional<at::ScalarType> dtype;
  at::Device device = at::kCPU;
  bool check_finite = false;  ///< Whether to refuse NaN and infinity in the weights.
  /// As `VisionTransformer::set_precision` takes it. Without a value the model has the precision of
  /// its `model_info`, if there is one.
  std::optional<Precision> precision = std::nullopt;
};

/// Makes a model with the weights of a folder or file.
///
/// The weights are copied out of the file before `load` returns. The file may then be overwritten,
/// truncated or deleted.
///
/// \param path      As `model_info` takes it.
/// \param schedule  A text that `Schedule::parse` takes. Without a value the model has the schedule
///                  of its `model_info`.
/// \throws dsm_ext::Error as `model_info` does, and when the weights do not fit the config.
/// \throws c10::ValueError for a schedule that cannot be parsed or does not fit the model, and for
///         the meta device; c10::TypeError for a dtype that is not supported;
///         c10::NotImplementedError for a precision, as `VisionTransformer::set_precision` does.
DSM_EXT_API VisionTransformer load(
    const std::string& path, const std::optional<std::string>& schedule = std::nullopt,
    const LoadOptions& options = {});

/// What `load_with_info` returns.
struct DSM_EXT_API LoadedModel {
  VisionTransformer model;
  ModelInfo info;
};

/// Gives what `load` and `model_info` give, and reads the files only once.
DSM_EXT_API LoadedModel load_with_info(
    const std::string& path, const std::optional<std::string>& schedule = std::nullopt,
    const LoadOptions& options = {});

}  // namespace dsm_ext
