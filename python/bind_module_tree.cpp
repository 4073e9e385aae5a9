#include "bind.h"

using namespace py::literals;

namespace {

// Remembers a tree of Python's modules, to see at each call whether somebody has changed it. It
// compares the parts and parameters of every module, the classes of the parts and the eps of norms.
// It also sees hooks on parts, and attributes that somebody gave to a part, for instance `forward`.
// A call looks at about five dictionaries for each module. To be fast, the expected values lie side
// by side, and each dictionary is walked in its order, which needs no lookups.
class ModuleTree {
 public:
  // modules: the model, then all its parts. Hooks and attributes of the model itself are allowed.
  explicit ModuleTree(const std::vector<py::object>& modules) {
    for (const auto& module : modules) {
      const auto dict = [&](const py::object& owner, const char* name) {
        return keep(owner[name].cast<py::dict>());
      };
      const bool part = !modules_.empty();
      const py::dict attributes = module.attr("__dict__");
      modules_.push_back(
          {.self = module.ptr(),
           .attributes = part ? keep(attributes) : nullptr,  // those of the model hold this tree
           .parts = dict(attributes, "_modules"),
           .parameters = dict(attributes, "_parameters"),
           .forward_hooks = part ? dict(attributes, "_forward_hooks") : nullptr,
           .forward_pre_hooks = part ? dict(attributes, "_forward_pre_hooks") : nullptr,
           .type = Py_TYPE(module.ptr()),
           .eps = part && attributes.contains("eps") ? keep(attributes["eps"]) : nullptr,
           .attribute_count = PyDict_GET_SIZE(attributes.ptr()),
           .part_count = keep_values(attributes["_modules"]),
           .parameter_count = keep_values(attributes["_parameters"]),
           .deletes_parts = py::hasattr(module, "__delitem__")});
    }
  }

  bool holds() const {
    const auto* expected = values_.data();
    for (const auto& module : modules_) {
      if (!same(module.parts, module.part_count, expected) ||
          !same(module.parameters, module.parameter_count, expected) ||
          (module.attributes != nullptr &&
           (Py_TYPE(module.self) != module.type || (module.deletes_parts && !has_dict(module)) ||
            (module.eps != nullptr && !has_eps(module)) ||
            PyDict_GET_SIZE(module.forward_hooks) > 0 ||
            PyDict_GET_SIZE(module.forward_pre_hooks) > 0 ||
            PyDict_GET_SIZE(module.attributes) != module.attribute_count))) {
        return false;
      }
    }
    return true;
  }

 private:
  struct Module {
    PyObject *self, *attributes, *parts, *parameters, *forward_hooks, *forward_pre_hooks;
    PyTypeObject* type;
    PyObject* eps;  // of a norm, else null
    Py_ssize_t attribute_count;
    int32_t part_count, parameter_count;
    bool deletes_parts;  // by an operator of its own, as nn.Sequential does
  };

  PyObject* keep(py::object object) { return kept_.emplace_back(std::move(object)).ptr(); }

  int32_t keep_values(const py::object& dict) {
    for (const auto& [name, value] : dict.cast<py::dict>()) {
      values_.push_back(keep(py::reinterpret_borrow<py::object>(name)));
      values_.push_back(keep(py::reinterpret_borrow<py::object>(value)));
    }
    return static_cast<int32_t>(py::len(dict));
  }

  // Whether a dictionary has exactly the next `count` expected names and values, in their order.
  // `expected` then points to the value after them.
  static bool same(PyObject* dict, int32_t count, PyObject* const*& expected) {
    if (PyDict_GET_SIZE(dict) != count) {
      return false;
    }
    Py_ssize_t at = 0;
    PyObject *name = nullptr, *value = nullptr;
    for (int32_t i = 0; i < count; ++i, expected += 2) {
      if (!PyDict_Next(dict, &at, &name, &value) || name != expected[0] || value != expected[1]) {
        return false;
      }
    }
    return true;
  }

  // nn.Sequential replaces its dictionary of parts when a part is deleted (`del blocks[2]`).
  static bool has_dict(const Module& module) {
    static PyObject* const name = PyUnicode_InternFromString("_modules");
    return PyDict_GetItemWithError(module.attributes, name) == module.parts;
  }

  static bool has_eps(const Module& module) {
    static PyObject* const name = PyUnicode_InternFromString("eps");
    return PyDict_GetItemWithError(module.attributes, name) == module.eps;
  }

  std::vector<Module> modules_;
  std::vector<PyObject*> values_;  // names and values of these dictionaries, one after another
  std::vector<py::object> kept_;   // owns all of these
};

}  // namespace

void bind_module_tree(py::module_& m) {
  py::class_<ModuleTree>(m, "ModuleTree")
      .def(py::init<const std::vector<py::object>&>(), "modules"_a)
      .def("holds", &ModuleTree::holds);
}
