#include <algorithm>

#include "bind.h"

using namespace py::literals;
using dsm_ext::Config;
using dsm_ext::Schedule;

namespace {

// Seconds by stage; stages that took none are left out.
py::dict dict_of(const dsm_ext::Profile& profile) {
  py::list parts;
  for (const auto& seconds : profile.seconds) {
    py::dict part;
    for (int64_t s = 0; s < dsm_ext::kStages; ++s) {
      if (seconds[s] > 0) {
        part[dsm_ext::to_string(static_cast<dsm_ext::Stage>(s))] = seconds[s];
      }
    }
    parts.append(part);
  }
  const auto count = py::len(parts);
  return py::dict(
      "wall"_a = profile.wall, "threads"_a = profile.threads, "before"_a = parts[0],
      "blocks"_a = parts[py::slice(1, static_cast<py::ssize_t>(count) - 1, 1)],
      "after"_a = parts[count - 1]);
}

// What a tree of Python's modules was like, to see at each call whether it still is: the parts and
// parameters of every module, the classes of parts and the eps of norms, that no part has hooks,
// and that none was given an attribute such as `forward`. A call looks at some five dictionaries
// for each module, so what is compared lies side by side, and dictionaries are walked in their
// order instead of looked up in.
class ModuleTree {
 public:
  // `modules`: the model, then all its parts. The model itself may have hooks and attributes.
  explicit ModuleTree(const std::vector<py::object>& modules) {
    for (const auto& module : modules) {
      const auto dict = [&](const py::object& owner, const char* name) {
        return keep(owner[name].cast<py::dict>());
      };
      const bool part = !modules_.empty();
      const py::dict attributes = module.attr("__dict__");
      modules_.push_back(
          {.self = module.ptr(),
           .attributes = part ? keep(attributes) : nullptr,  // the model's have this tree in them
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

  // Whether a dictionary has just the next `count` expected names and values, in their order;
  // `expected` moves on behind them.
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

  // `del blocks[2]` gives nn.Sequential another dictionary of parts.
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

void bind_model(py::module_& m) {
  py::class_<ModuleTree>(m, "ModuleTree")
      .def(py::init<const std::vector<py::object>&>(), "modules"_a)
      .def("holds", &ModuleTree::holds);

  using Model = dsm_ext::VisionTransformerImpl;
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Model, std::shared_ptr<Model>>(m, "VisionTransformer")
      .def(py::init<Config, Schedule>(), "config"_a, "schedule"_a, Release())
      .def("forward", &Model::forward, "images"_a, Release())
      .def("forward_features", &Model::forward_features, "images"_a, "dense"_a = false, Release())
      .def(
          "forward_intermediates",
          [](const Model& model, const at::Tensor& images, const std::vector<int64_t>& blocks,
             bool norm) {
            std::vector<std::tuple<at::Tensor, at::Tensor, at::Tensor>> kept;
            for (auto& block : model.forward_intermediates(images, blocks, norm)) {
              kept.emplace_back(block.tokens, block.source, block.size);
            }
            return kept;
          },
          "images"_a, "blocks"_a, "norm"_a = false, Release())
      .def(
          "forward_head", &Model::forward_head, "features"_a, "size"_a = py::none(),
          "pre_logits"_a = false, Release())
      .def(
          "forward_with_features",
          [](const Model& model, const at::Tensor& images) {
            auto outputs = model.forward_with_features(images);
            return std::tuple(outputs.logits, outputs.pooled, outputs.features, outputs.size);
          },
          "images"_a, Release())
      .def(
          "trace",
          [](const Model& model, const at::Tensor& images) {
            auto trace = model.trace(images);
            return std::tuple(trace.logits, trace.source, trace.size);
          },
          "images"_a, Release())
      .def(
          "profile",
          [](const Model& model, const at::Tensor& images) {
            const auto profile = [&] {
              const py::gil_scoped_release release;
              return model.profile(images);
            }();
            return dict_of(profile);
          },
          "images"_a)
      .def(
          "load_parameters", &Model::load_parameters, "weights"_a, "check_finite"_a = true,
          Release())
      .def(
          "named_parameters",
          [](const Model& model) {
            std::vector<std::pair<std::string, at::Tensor>> parameters;
            for (const auto& parameter : model.named_parameters()) {
              parameters.emplace_back(parameter.key(), parameter.value());
            }
            return parameters;
          })
      .def("freeze", &Model::freeze, Release())
      .def_property_readonly("frozen", py::cpp_function(&Model::frozen, Release()))
      .def_property_readonly("config", &Model::config)
      .def_property(
          "schedule", py::cpp_function(&Model::schedule, Release()),
          py::cpp_function(&Model::set_schedule, Release()))
      .def_property(
          "cpu_path",
          [](const Model& model) {
            const py::gil_scoped_release release;
            return model.cpu_path() == dsm_ext::CpuPath::fast ? "fast" : "reference";
          },
          [](Model& model, const std::string& path) {
            if (path != "fast" && path != "reference") {
              throw py::value_error(
                  "dsm_ext.VisionTransformer: expected cpu_path to be fast or reference, got " +
                  path);
            }
            const py::gil_scoped_release release;
            model.set_cpu_path(
                path == "fast" ? dsm_ext::CpuPath::fast : dsm_ext::CpuPath::reference);
          })
      .def_property(
          "cuda_graphs", py::cpp_function(&Model::cuda_graphs, Release()),
          py::cpp_function(&Model::set_cuda_graphs, Release()))
      .def_property_readonly("plan", py::cpp_function(&Model::plan, Release()));
}
