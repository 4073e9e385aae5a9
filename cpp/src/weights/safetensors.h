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
SafetensorsFile open_safetensors(const std::string& path);

}  // namespace dsm_ext
