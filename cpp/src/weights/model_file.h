#pragma once

#include <string>

#include "dsm_ext/load.h"
#include "dsm_ext/weights.h"

namespace dsm_ext {

/// What was read from a model's folder or file.
struct ModelFile {
  std::string config_path, weights_path;  // for messages
  ModelInfo info;
  bool own_schedule;  // whether the file has a schedule
  NamedTensors weights;
};

/// Reads what `model_info` gives, and the weights.
/// \param values  Whether to read the values of the weights. When false, the weights are on the
/// meta
///                device, with shapes and dtypes only.
ModelFile open_model(const std::string& path, bool values = true);

}  // namespace dsm_ext
