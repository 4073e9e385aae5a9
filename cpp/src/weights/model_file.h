#pragma once

#include <string>

#include "dsm_ext/load.h"
#include "dsm_ext/weights.h"

namespace dsm_ext {

/// A model's folder or file, read.
struct ModelFile {
  std::string config_path, weights_path;  // for messages
  ModelInfo info;
  bool own_schedule;  // the file's, not the default
  NamedTensors weights;
};

/// What `model_info` says, with the weights.
/// \param values  Whether the weights are read; else they have shapes and dtypes alone.
ModelFile open_model(const std::string& path, bool values = true);

}  // namespace dsm_ext
