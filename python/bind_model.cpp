#include "bind.h"

using namespace py::literals;
using dsm_ext::Config;
using dsm_ext::Schedule;

namespace {

// Converts a profile to dictionaries of seconds by stage, without stages that took no time.
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

}  // namespace

void bind_model(py::module_& m) {
  py::list stages;
  for (int64_t stage = 0; stage < dsm_ext::kStages; ++stage) {
    stages.append(dsm_ext::to_string(static_cast<dsm_ext::Stage>(stage)));
  }
  m.attr("STAGES") = py::tuple(stages);

  using Model = dsm_ext::VisionTransformerImpl;
  using Release = py::call_guard<py::gil_scoped_release>;
  m.def(
      "has_precision",
      [](const std::string& name) {
        return dsm_ext::has_precision(dsm_ext::parse_precision(name));
      },
      "name"_a, Release());
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
            return std::tuple(trace.logits, trace.source, trace.size, trace.location);
          },
          "images"_a, Release())
      .def("class_attention", &Model::class_attention, "images"_a, "block"_a, Release())
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
            return model.cpu_path() == dsm_ext::CpuPath::fast ? "fast" : "aten";
          },
          [](Model& model, const std::string& path) {
            // "reference" is the older name of "aten".
            if (path != "fast" && path != "aten" && path != "reference") {
              throw py::value_error(
                  "dsm_ext.VisionTransformer: expected cpu_path to be fast or aten, got " + path);
            }
            const py::gil_scoped_release release;
            model.set_cpu_path(path == "fast" ? dsm_ext::CpuPath::fast : dsm_ext::CpuPath::aten);
          })
      .def_property(
          "precision",
          [](const Model& model) {
            const py::gil_scoped_release release;
            return dsm_ext::to_string(model.precision());
          },
          [](Model& model, const std::string& name) {
            const py::gil_scoped_release release;
            model.set_precision(dsm_ext::parse_precision(name));
          })
      .def_property_readonly(
          "chosen_precision",
          [](const Model& model) -> std::optional<std::string> {
            const py::gil_scoped_release release;
            const auto chosen = model.chosen_precision();
            return chosen ? std::optional<std::string>(dsm_ext::to_string(*chosen)) : std::nullopt;
          })
      .def_property(
          "cuda_graphs", py::cpp_function(&Model::cuda_graphs, Release()),
          py::cpp_function(&Model::set_cuda_graphs, Release()))
      .def_property_readonly("plan", py::cpp_function(&Model::plan, Release()));
}
