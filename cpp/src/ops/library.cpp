#include <torch/library.h>

// Each operator adds its schema and its kernels in its own files.
TORCH_LIBRARY(dsm_ext, m) {
  m.set_python_module("dsm_ext.ops", "dsm_ext");  // where the fake kernels are
}
