#include <pybind11/operators.h>

#include "bind.h"

using namespace py::literals;
using dsm_ext::Plan;

namespace {

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
      plan.tokens_dense, plan.multiply_adds_dense, plan.multiply_adds_dense_logits, plan.rule);
}

Plan plan_from(const py::tuple& state) {
  return {
      state[0].cast<std::vector<dsm_ext::PlannedBlock>>(),
      state[1].cast<std::vector<int32_t>>(),
      state[2].cast<int64_t>(),
      state[3].cast<int64_t>(),
      state[4].cast<int64_t>(),
      state[5].cast<int64_t>(),
      state[6].cast<int64_t>(),
      state[7].cast<dsm_ext::MergeRule>()};
}

}  // namespace

void bind_plan(py::module_& m) {
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
      .def_readonly("rule", &Plan::rule)
      .def("__str__", &Plan::str)
      .def(py::self == py::self)
      .def(py::pickle(&state_of_plan, &plan_from));
}
