#include "bind.h"

using namespace py::literals;

namespace {

// Remembers the state of a tree of Python modules, so that each call can see whether somebody has
// changed the tree. It compares the parts and parameters of every module, the classes of the parts
// and the eps of norms. It also sees hooks on parts, and attributes that somebody added to a part,
// for instance `forward`. A check looks at about five dictionaries for each module. To make it
// fast, the expected values lie next to each other in memory, and each dictionary is read in its
// own order, which needs no lookups.
class ModuleTree {
 public:
  // modules: the model, then all its parts. The model itself may have hooks and new attributes.
  explicit ModuleTree(const std::vector<py::object>& modules) {
    for (const auto& module : modules) {
      const auto dict = [&](const py::object& owner, const char* name) {
        return keep(owner[name].cast<py::dict>());
      };
      const bool part = !modules_.empty();
      const py::dict attributes = module.attr("__dict__");
      modules_.push_back(
          {.self = module.ptr(),
           .attributes = part ? keep(attributes) : nullptr,  // of the model: would make a cycle
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

  // Whether nothing has changed.
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
    PyObject* eps;  // null if the module has none
    Py_ssize_t attribute_count;
    int32_t part_count, parameter_count;
    bool deletes_parts;  // whether its class has `__delitem__`, like nn.Sequential
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

  // Whether the module still has the dictionary of parts that it had. nn.Sequential replaces this
  // dictionary when somebody deletes a part (`del blocks[2]`).
  static bool has_dict(const Module& module) {
    static PyObject* const name = PyUnicode_InternFromString("_modules");
    return PyDict_GetItemWithError(module.attributes, name) == module.parts;
  }

  static bool has_eps(const Module& module) {
    static PyObject* const name = PyUnicode_InternFromString("eps");
    return PyDict_GetItemWithError(module.attributes, name) == module.eps;
  }

  std::vector<Module> modules_;
  std::vector<PyObject*> values_;  // names and values of `parts` and `parameters` of all modules
  std::vector<py::object> kept_;   // keeps all objects that the pointers above point to alive
};

}  // namespace

void bind_module_tree(py::module_& m) {
  py::class_<ModuleTree>(m, "ModuleTree")
      .def(py::init<const std::vector<py::object>&>(), "modules"_a)
      .def("holds", &ModuleTree::holds);
}
