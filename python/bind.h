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

/// Makes instances picklable by every protocol: those below 2 would make them without pybind11.
/// The class has a py::pickle.
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
