// The only file that knows pybind11: every class of the core under its own name, tensors through
// torch's casters, errors as the Python exceptions they stand for. Documentation is in _C.pyi.

#include <pybind11/operators.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>

#include "dsm_ext/dsm_ext.h"
#include "model/config_fields.h"
#include "model/cpu/parts.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using dsm_ext::Config;
using dsm_ext::Plan;
using dsm_ext::Schedule;
using dsm_ext::Step;
using Blocks = std::vector<std::vector<Step>>;

// Every error of torch's that has a Python counterpart; any other becomes RuntimeError.
void translate(std::exception_ptr error) {
  try {
    if (error) {
      std::rethrow_exception(error);
    }
  } catch (const dsm_ext::Error& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const c10::ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what_without_backtrace());
  } catch (const c10::TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what_without_backtrace());
  } catch (const c10::IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what_without_backtrace());
  } catch (const c10::NotImplementedError& e) {
    PyErr_SetString(PyExc_NotImplementedError, e.what_without_backtrace());
  } catch (const c10::OutOfMemoryError& e) {
    PyErr_SetString(PyExc_MemoryError, e.what_without_backtrace());
  } catch (const py::cast_error& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const c10::Error& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what_without_backtrace());
  }
}

// An entry of a schedule: None, a Step, or a sequence of Steps.
std::vector<Step> steps_from(const py::handle& entry) {
  if (entry.is_none()) {
    return {};
  }
  if (py::isinstance<Step>(entry)) {
    return {entry.cast<Step>()};
  }
  std::vector<Step> steps;
  try {
    for (const auto& step : py::reinterpret_borrow<py::object>(entry)) {
      steps.push_back(step.cast<Step>());
    }
  } catch (const py::error_already_set&) {
    throw py::type_error(
        "dsm_ext.Schedule: expected None, Local, Global or a list of them, got " +
        py::repr(entry).cast<std::string>());
  } catch (const py::cast_error&) {
    throw py::type_error(
        "dsm_ext.Schedule: expected None, Local, Global or a list of them, got " +
        py::repr(entry).cast<std::string>());
  }
  return steps;
}

Schedule schedule_from(const py::iterable& entries, bool proportional) {
  if (py::isinstance<py::str>(entries)) {
    throw py::type_error(
        "dsm_ext.Schedule: expected a list with an entry for each block; strings are for "
        "Schedule.parse(text, depth)");
  }
  Blocks blocks;
  for (const auto& entry : entries) {
    blocks.push_back(steps_from(entry));
  }
  return Schedule(std::move(blocks), proportional);
}

py::tuple steps_of(const Schedule& schedule, int64_t block) {
  return py::tuple(py::cast(schedule.blocks()[block]));
}

Schedule tome(int64_t depth, const py::object& r, double inflection) try {
  if (py::isinstance<py::tuple>(r)) {
    const auto [count, slope] = r.cast<std::pair<int64_t, double>>();
    return Schedule::tome(depth, count, slope);
  }
  if (py::isinstance<py::list>(r)) {
    return Schedule::tome(depth, r.cast<std::vector<int64_t>>());
  }
  return Schedule::tome(depth, r.cast<std::optional<int64_t>>(), inflection);
} catch (const py::cast_error&) {
  throw py::type_error(
      "dsm_ext.Schedule.tome: expected r to be an int, (int, inflection) or a list of ints, got " +
      py::repr(r).cast<std::string>());
}

// The form for JSON: {"blocks": [[{"local": r, "window": w}, {"global": r}], ...], "proportional":
// b}.
py::dict dict_of(const Schedule& schedule) {
  py::list blocks;
  for (const auto& steps : schedule.blocks()) {
    py::list entry;
    for (const auto& step : steps) {
      entry.append(
          step.is_local() ? py::dict("local"_a = step.r, "window"_a = step.window)
                          : py::dict("global"_a = step.r));
    }
    blocks.append(entry);
  }
  return py::dict("blocks"_a = blocks, "proportional"_a = schedule.proportional());
}

bool has_keys(const py::handle& value, std::initializer_list<const char*> keys) {
  if (!py::isinstance<py::dict>(value) || py::len(value) != keys.size()) {
    return false;
  }
  return std::all_of(keys.begin(), keys.end(), [&](auto* key) { return value.contains(key); });
}

[[noreturn]] void refuse(const py::handle& value) {
  throw py::value_error(
      "dsm_ext.Schedule.from_dict: expected what to_dict gives, got " +
      py::repr(value).cast<std::string>());
}

Schedule schedule_of(const py::dict& dict) {
  if (!has_keys(dict, {"blocks", "proportional"})) {
    refuse(dict);
  }
  try {
    Blocks blocks;
    for (const auto& entry : dict["blocks"].cast<py::list>()) {
      auto& steps = blocks.emplace_back();
      for (const auto& step : entry.cast<py::list>()) {
        if (has_keys(step, {"local", "window"})) {
          steps.push_back(
              Step::local(step["local"].cast<int64_t>(), step["window"].cast<int64_t>()));
        } else if (has_keys(step, {"global"})) {
          steps.push_back(Step::global(step["global"].cast<int64_t>()));
        } else {
          refuse(step);
        }
      }
    }
    return Schedule(std::move(blocks), dict["proportional"].cast<bool>());
  } catch (const py::cast_error&) {
    refuse(dict);
  } catch (const py::error_already_set&) {
    refuse(dict);
  }
}

// A field's value in Python: enumerators by their names, pairs as tuples.
template <typename Value>
py::object object_of(const Value& value) {
  if constexpr (std::is_enum_v<Value>) {
    return py::str(dsm_ext::name_of(value));
  } else if constexpr (std::is_same_v<Value, std::array<int64_t, 2>>) {
    return py::tuple(py::cast(value));
  } else {
    return py::cast(value);
  }
}

py::dict dict_of_config(const Config& config) {
  py::dict dict;
  dsm_ext::for_each_field(
      config, [&](const char* name, const auto& value) { dict[name] = object_of(value); });
  return dict;
}

Config config_from(const py::kwargs& given) {
  Config config;
  const auto rest = given.attr("copy")().cast<py::dict>();
  dsm_ext::for_each_field(config, [&](const char* name, auto& field) {
    using Value = std::decay_t<decltype(field)>;
    if (!rest.contains(name)) {
      return;
    }
    const py::object value = rest.attr("pop")(name);
    try {
      if constexpr (std::is_enum_v<Value>) {
        field = dsm_ext::value_of<Value>(name, value.cast<std::string>());
      } else {
        field = value.cast<Value>();
      }
    } catch (const py::cast_error&) {
      throw py::type_error(
          std::string("dsm_ext.Config: ") + name + " cannot be " +
          py::repr(value).cast<std::string>());
    }
  });
  if (py::len(rest) > 0) {
    throw py::type_error(
        "dsm_ext.Config: no field named " + py::repr(rest.begin()->first).cast<std::string>());
  }
  config.validate();
  return config;
}

void bind_schedule(py::module_& m) {
  const Config defaults;
  auto config = py::class_<Config>(m, "Config");
  config.def(py::init(&config_from))
      .def_property_readonly("grid", [](const Config& c) { return py::tuple(py::cast(c.grid())); })
      .def_property_readonly("prefix", &Config::prefix)
      .def_property_readonly("tokens", &Config::tokens)
      .def("to_dict", &dict_of_config)
      .def(
          "__eq__",
          [](const Config& a, const py::object& b) {
            return py::isinstance<Config>(b) &&
                   dict_of_config(a).equal(dict_of_config(b.cast<Config>()));
          })
      .def(
          "__repr__",
          [](const Config& c) {
            std::string text;
            for (const auto& [name, value] : dict_of_config(c)) {
              text += (text.empty() ? "" : ", ") + name.cast<std::string>() + "=" +
                      py::repr(value).cast<std::string>();
            }
            return "Config(" + text + ")";
          })
      .def(py::pickle(&dict_of_config, [](const py::dict& dict) {
        return config_from(py::kwargs(dict));
      }));
  dsm_ext::for_each_field(std::as_const(defaults), [&](const char* name, const auto&) {
    config.def_property_readonly(name, [key = py::str(name)](const Config& c) {
      return py::object(dict_of_config(c)[key]);
    });
  });

  py::class_<Step>(m, "Step")
      .def_readonly("r", &Step::r)
      .def_readonly("window", &Step::window)
      .def(py::self == py::self)
      .def("__hash__", [](const Step& s) { return py::hash(py::make_tuple(s.r, s.window)); })
      .def("__repr__", &Step::str);
  m.def("Local", &Step::local, "r"_a, "window"_a);
  m.def("Global", &Step::global, "r"_a);

  py::class_<dsm_ext::PlannedBlock>(m, "PlannedBlock")
      .def_property_readonly("kind", &dsm_ext::PlannedBlock::kind)
      .def_readonly("tokens_in", &dsm_ext::PlannedBlock::tokens_in)
      .def_readonly("tokens_out", &dsm_ext::PlannedBlock::tokens_out)
      .def_readonly("multiply_adds", &dsm_ext::PlannedBlock::multiply_adds)
      .def_readonly("multiply_adds_logits", &dsm_ext::PlannedBlock::multiply_adds_logits);

  py::class_<Plan>(m, "Plan")
      .def_readonly("blocks", &Plan::blocks)
      .def_readonly("window_order", &Plan::window_order)
      .def_readonly("multiply_adds_embed", &Plan::multiply_adds_embed)
      .def_readonly("multiply_adds_head", &Plan::multiply_adds_head)
      .def_readonly("multiply_adds_dense", &Plan::multiply_adds_dense)
      .def_readonly("multiply_adds_dense_logits", &Plan::multiply_adds_dense_logits)
      .def_property_readonly("multiply_adds", &Plan::multiply_adds)
      .def_property_readonly("multiply_adds_logits", &Plan::multiply_adds_logits)
      .def_readonly("tokens_dense", &Plan::tokens_dense)
      .def_property_readonly("tokens_out", &Plan::tokens_out)
      .def("__str__", &Plan::str);

  py::class_<Schedule>(m, "Schedule")
      .def(py::init(&schedule_from), "blocks"_a, "proportional"_a = true)
      .def_static("dense", &Schedule::dense, "depth"_a)
      .def_static(
          "dsm", &Schedule::dsm, "depth"_a, "r"_a = py::none(), "skip"_a = py::none(),
          "local"_a = py::none(), "window"_a = 7)
      .def_static("dfe", &Schedule::dfe, "depth"_a, "r"_a = py::none(), "skip"_a = py::none())
      .def_static("tome", &tome, "depth"_a, "r"_a = py::none(), "inflection"_a = 0.0)
      .def_static("parse", &Schedule::parse, "text"_a, "depth"_a)
      .def_property_readonly("depth", &Schedule::depth)
      .def_property_readonly("proportional", &Schedule::proportional)
      .def("with_proportional", &Schedule::with_proportional, "on"_a)
      .def("plan", &Schedule::plan, "config"_a)
      .def(py::self == py::self)
      .def("__hash__", [](const Schedule& s) { return py::hash(py::str(s.str())); })
      .def("__repr__", &Schedule::str)
      .def("__len__", &Schedule::depth)
      .def(
          "__getitem__",
          [](const Schedule& s, int64_t block) {
            const int64_t at = block < 0 ? block + s.depth() : block;
            if (at < 0 || at >= s.depth()) {
              throw py::index_error("dsm_ext.Schedule: no block " + std::to_string(block));
            }
            return steps_of(s, at);
          })
      .def("to_dict", &dict_of)
      .def_static("from_dict", &schedule_of, "dict"_a)
      .def(py::pickle(&dict_of, &schedule_of));
}

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

void bind_model(py::module_& m) {
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
      .def_property_readonly("plan", py::cpp_function(&Model::plan, Release()));
}

void bind_weights(py::module_& m) {
  m.def("read_safetensors", &dsm_ext::read_safetensors, "path"_a);
  m.def(
      "load",
      [](const std::string& folder, const std::optional<std::string>& schedule) {
        return dsm_ext::load(folder, schedule).ptr();
      },
      "folder"_a, "schedule"_a = py::none(), py::call_guard<py::gil_scoped_release>());
}

// Of no use but to tests and benchmarks.
void bind_parts(py::module_& m) {
  using Linear = dsm_ext::cpu::PackedLinear;
  py::class_<Linear>(m, "PackedLinear")
      .def(
          py::init<const at::Tensor&, const std::optional<at::Tensor>&>(), "weight"_a,
          "bias"_a = py::none())
      .def("forward", &Linear::forward, "x"_a, "gelu"_a = false);
  m.def("attention", &dsm_ext::cpu::attention, "qkv"_a, "size"_a = py::none());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::register_local_exception_translator(&translate);
  bind_schedule(m);
  bind_model(m);
  bind_weights(m);
  bind_parts(m);
}
