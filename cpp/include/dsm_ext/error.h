#pragma once

#include <stdexcept>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// A file cannot be used: the message names it and its fault.
class DSM_EXT_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace dsm_ext
