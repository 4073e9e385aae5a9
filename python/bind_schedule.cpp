#include <pybind11/operators.h>

#include <algorithm>

#include "bind.h"

using namespace py::literals;
using dsm_ext::Config;
using dsm_ext::Plan;
using dsm_ext::Schedule;
using dsm_ext::Step;
using Blocks = std::vector<std::vector<Step>>;

namespace {

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

py::tuple state_of(const dsm_ext::PlannedBlock& block) {
  py::list steps;
  for (const auto& step : block.steps) {
    steps.append(
        py::make_tuple(step.r, step.windows, step.regroup, step.tokens_in, step.tokens_out));
  }
  return py::make_tuple(
      steps, block.tokens_in, block.tokens_out, block.multiply_adds, block.multiply_adds_logits);
}

dsm_ext::PlannedBlock block_from(const py::tuple& state) {
  dsm_ext::PlannedBlock block{
      {},
      state[1].cast<int64_t>(),
      state[2].cast<int64_t>(),
      state[3].cast<int64_t>(),
      state[4].cast<int64_t>()};
  for (const auto& item : state[0].cast<py::list>()) {
    const auto step = item.cast<py::tuple>();
    block.steps.push_back(
        {step[0].cast<int64_t>(), step[1].cast<std::vector<int64_t>>(), step[2].cast<bool>(),
         step[3].cast<int64_t>(), step[4].cast<int64_t>()});
  }
  return block;
}

py::tuple state_of_plan(const Plan& plan) {
  return py::make_tuple(
      plan.blocks, plan.window_order, plan.multiply_adds_embed, plan.multiply_adds_head,
      plan.tokens_dense, plan.multiply_adds_dense, plan.multiply_adds_dense_logits);
}

Plan plan_from(const py::tuple& state) {
  return {
      state[0].cast<std::vector<dsm_ext::PlannedBlock>>(),
      state[1].cast<std::vector<int32_t>>(),
      state[2].cast<int64_t>(),
      state[3].cast<int64_t>(),
      state[4].cast<int64_t>(),
      state[5].cast<int64_t>(),
      state[6].cast<int64_t>()};
}

Schedule tome(int64_t depth, const py::object& r, double inflection) try {
  if (py::isinstance<py::tuple>(r)) {
    const auto [count, slope] = r.cast<std::pair<int64_t, double>>();
    return Schedule::tome(depth, count, slope);
  }
  const bool array = py::hasattr(r, "ndim") && r.attr("ndim").cast<int64_t>() == 1;
  if (py::isinstance<py::list>(r) || array) {
    return Schedule::tome(depth, py::list(r).cast<std::vector<int64_t>>());
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

}  // namespace

void bind_schedule(py::module_& m) {
  auto step = py::class_<Step>(m, "Step");
  pickle_by_every_protocol(step);
  step.def_readonly("r", &Step::r)
      .def_readonly("window", &Step::window)
      .def(py::self == py::self)
      .def("__hash__", [](const Step& s) { return py::hash(py::make_tuple(s.r, s.window)); })
      .def("__repr__", &Step::str)
      .def(
          py::pickle(
              [](const Step& step) { return py::make_tuple(step.r, step.window); },
              [](const py::tuple& state) {
                return Step{state[0].cast<int64_t>(), state[1].cast<int64_t>()};
              }));
  m.def("Local", &Step::local, "r"_a, "window"_a);
  m.def("Global", &Step::global, "r"_a);

  auto block = py::class_<dsm_ext::PlannedBlock>(m, "PlannedBlock");
  pickle_by_every_protocol(block);
  block.def_property_readonly("kind", &dsm_ext::PlannedBlock::kind)
      .def_readonly("tokens_in", &dsm_ext::PlannedBlock::tokens_in)
      .def_readonly("tokens_out", &dsm_ext::PlannedBlock::tokens_out)
      .def_readonly("multiply_adds", &dsm_ext::PlannedBlock::multiply_adds)
      .def_readonly("multiply_adds_logits", &dsm_ext::PlannedBlock::multiply_adds_logits)
      .def(py::self == py::self)
      .def(py::pickle(&state_of, &block_from));

  auto plan = py::class_<Plan>(m, "Plan");
  pickle_by_every_protocol(plan);
  plan.def_readonly("blocks", &Plan::blocks)
      .def_readonly("window_order", &Plan::window_order)
      .def_readonly("multiply_adds_embed", &Plan::multiply_adds_embed)
      .def_readonly("multiply_adds_head", &Plan::multiply_adds_head)
      .def_readonly("multiply_adds_dense", &Plan::multiply_adds_dense)
      .def_readonly("multiply_adds_dense_logits", &Plan::multiply_adds_dense_logits)
      .def_property_readonly("multiply_adds", &Plan::multiply_adds)
      .def_property_readonly("multiply_adds_logits", &Plan::multiply_adds_logits)
      .def_readonly("tokens_dense", &Plan::tokens_dense)
      .def_property_readonly("tokens_out", &Plan::tokens_out)
      .def("__str__", &Plan::str)
      .def(py::self == py::self)
      .def(py::pickle(&state_of_plan, &plan_from));

  auto schedule = py::class_<Schedule>(m, "Schedule");
  pickle_by_every_protocol(schedule);
  schedule.def(py::init(&schedule_from), "blocks"_a, "proportional"_a = true)
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
