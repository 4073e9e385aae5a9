#pragma once

// Declarations for the Python module _C. Classes have the same names as in C++. Tensors are
// converted by torch's casters, and C++ errors become the matching Python exceptions. Only this
// folder uses pybind11. The module is documented in _C.pyi.

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "dsm_ext/dsm_ext.h"

namespace py = pybind11;

/// Formats a dictionary of fields as "Name(field=value, ...)".
inline std::string repr_of(const char* name, const py::dict& fields) {
  std::string text;
  for (const auto& [field, value] : fields) {
    text += (text.empty() ? "" : ", ") + field.cast<std::string>() + "=" +
            py::repr(value).cast<std::string>();
  }
  return std::string(name) + "(" + text + ")";
}

/// Makes instances picklable by every protocol. Without this, protocols 0 and 1 would create
/// instances without calling pybind11. The class must also have a py::pickle.
template <typename Class>
void pickle_by_every_protocol(Class& cls) {
  cls.def("__reduce_ex__", [](const py::object& self, int) {
    return py::make_tuple(
        py::module_::import("copyreg").attr("__newobj__"), py::make_tuple(py::type::of(self)),
        self.attr("__getstate__")());
  });
}

void bind_config(py::module_& m);
void bind_schedule(py::module_& m);
void bind_plan(py::module_& m);
void bind_model(py::module_& m);
void bind_module_tree(py::module_& m);
void bind_load(py::module_& m);
void bind_build_info(py::module_& m);
