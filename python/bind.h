#pragma once

// Every class of the core under its own name, tensors through torch's casters, errors as the Python
// exceptions they stand for. This folder alone knows pybind11. Documentation is in _C.pyi.

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "dsm_ext/dsm_ext.h"

namespace py = pybind11;

/// "Name(field=value, ...)" of a dictionary of fields.
inline std::string repr_of(const char* name, const py::dict& fields) {
  std::string text;
  for (const auto& [field, value] : fields) {
    text += (text.empty() ? "" : ", ") + field.cast<std::string>() + "=" +
            py::repr(value).cast<std::string>();
  }
  return std::string(name) + "(" + text + ")";
}

void bind_config(py::module_& m);
void bind_schedule(py::module_& m);
void bind_model(py::module_& m);
void bind_load(py::module_& m);
void bind_build_info(py::module_& m);
