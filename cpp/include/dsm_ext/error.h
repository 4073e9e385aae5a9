#pragma once

#include <stdexcept>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// Says that a file cannot be used. The message names the file and what is wrong with it.
class DSM_EXT_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace dsm_ext
