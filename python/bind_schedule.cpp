#include <pybind11/operators.h>

#include <algorithm>

#include "bind.h"

using namespace py::literals;
using dsm_ext::Config;
using dsm_ext::MergeRule;
using dsm_ext::Schedule;
using dsm_ext::Step;
using Blocks = std::vector<std::vector<Step>>;

namespace {

// Converts an entry of a schedule: None, a Step, or a sequence of Steps.
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

Schedule schedule_from(const py::iterable& entries, bool proportional, const MergeRule& rule) {
  if (py::isinstance<py::str>(entries)) {
    throw py::type_error(
        "dsm_ext.Schedule: expected a list with an entry for each block; strings are for "
        "Schedule.parse(text, depth)");
  }
  Blocks blocks;
  for (const auto& entry : entries) {
    blocks.push_back(steps_from(entry));
  }
  return Schedule(std::move(blocks), proportional, rule);
}

py::tuple steps_of(const Schedule& schedule, int64_t block) {
  return py::tuple(py::cast(schedule.blocks()[block]));
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

MergeRule rule_from(const std::string& metric, double protect) {
  const MergeRule rule{dsm_ext::parse_merge_metric(metric), protect};
  dsm_ext::check_merge_rule(rule);
  return rule;
}

py::dict dict_of_rule(const MergeRule& rule) {
  return py::dict("metric"_a = dsm_ext::name_of(rule.metric), "protect"_a = rule.protect);
}

// Converts a schedule to a dictionary for JSON: {"blocks": [[{"local": r, "window": w}, {"global":
// r}], ...], "proportional": b}. Unless the rule is the default, the dictionary also has "rule":
// {"metric": m, "protect": p}.
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
  py::dict dict("blocks"_a = blocks, "proportional"_a = schedule.proportional());
  if (schedule.rule() != MergeRule{}) {
    dict["rule"] = dict_of_rule(schedule.rule());
  }
  return dict;
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
  const bool has_rule = has_keys(dict, {"blocks", "proportional", "rule"});
  if (!has_rule && !has_keys(dict, {"blocks", "proportional"})) {
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
    MergeRule rule;
    if (has_rule) {
      rule = rule_from(
          dict["rule"]["metric"].cast<std::string>(), dict["rule"]["protect"].cast<double>());
    }
    return Schedule(std::move(blocks), dict["proportional"].cast<bool>(), rule);
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

  auto rule = py::class_<MergeRule>(m, "MergeRule");
  pickle_by_every_protocol(rule);
  rule.def(py::init(&rule_from), "metric"_a = "keys", "protect"_a = 0.0)
      .def_property_readonly(
          "metric", [](const MergeRule& r) { return dsm_ext::name_of(r.metric); })
      .def_readonly("protect", &MergeRule::protect)
      .def(py::self == py::self)
      .def("__hash__", [](const MergeRule& r) { return py::hash(py::str(r.str())); })
      .def("__repr__", &MergeRule::str)
      .def(
          py::pickle(
              [](const MergeRule& r) {
                return py::make_tuple(dsm_ext::name_of(r.metric), r.protect);
              },
              [](const py::tuple& state) {
                return rule_from(state[0].cast<std::string>(), state[1].cast<double>());
              }));

  auto schedule = py::class_<Schedule>(m, "Schedule");
  pickle_by_every_protocol(schedule);
  schedule
      .def(py::init(&schedule_from), "blocks"_a, "proportional"_a = true, "rule"_a = MergeRule{})
      .def_static("dense", &Schedule::dense, "depth"_a)
      .def_static(
          "dsm", &Schedule::dsm, "depth"_a, "r"_a = py::none(), "skip"_a = py::none(),
          "local"_a = py::none(), "window"_a = 7)
      .def_static("dfe", &Schedule::dfe, "depth"_a, "r"_a = py::none(), "skip"_a = py::none())
      .def_static("tome", &tome, "depth"_a, "r"_a = py::none(), "inflection"_a = 0.0)
      .def_static("guided", &Schedule::guided, "config"_a, "speedup"_a, "rule"_a = py::none())
      .def_static(
          "parse", py::overload_cast<const std::string&, const Config&>(&Schedule::parse), "text"_a,
          "config"_a)
      .def_static(
          "parse", py::overload_cast<const std::string&, int64_t>(&Schedule::parse), "text"_a,
          "depth"_a)
      .def_property_readonly("depth", &Schedule::depth)
      .def_property_readonly("proportional", &Schedule::proportional)
      .def("with_proportional", &Schedule::with_proportional, "on"_a)
      .def_property_readonly("rule", &Schedule::rule)
      .def("with_rule", &Schedule::with_rule, "rule"_a)
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
      .def("text", &Schedule::text)
      .def("to_dict", &dict_of)
      .def_static("from_dict", &schedule_of, "dict"_a)
      .def(py::pickle(&dict_of, &schedule_of));
}
