#include <torch/library.h>

// Defines the namespace. Each operator adds its schema and its kernels in its own files.
TORCH_LIBRARY(dsm_ext, m) {
  m.set_python_module("dsm_ext.ops", "dsm_ext");  // has the fake kernels
}
