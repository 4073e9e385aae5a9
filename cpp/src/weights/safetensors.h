#pragma once

#include <map>
#include <string>

#include "dsm_ext/weights.h"

namespace dsm_ext {

/// What a safetensors file holds.
struct SafetensorsFile {
  NamedTensors tensors;  ///< As `read_safetensors` gives them.
  std::map<std::string, std::string> metadata;
};

/// `read_safetensors`, and the file's metadata.
/// \param values  Whether the tensors are read; else they have their shapes and dtypes alone, on
/// the
///                meta device.
SafetensorsFile open_safetensors(const std::string& path, bool values);

}  // namespace dsm_ext
