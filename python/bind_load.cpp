#include <pybind11/operators.h>
#include <pybind11/stl/filesystem.h>

#include "bind.h"
#include "config/config_fields.h"

using namespace py::literals;
using dsm_ext::ModelInfo;
using dsm_ext::Preprocessing;
using Path = std::filesystem::path;
using Release = py::call_guard<py::gil_scoped_release>;

namespace {

Preprocessing preprocessing(
    std::array<int64_t, 2> size, const std::string& interpolation, double crop_pct,
    const std::string& crop_mode, std::vector<double> mean, std::vector<double> std) {
  Preprocessing p;
  p.size = size;
  p.interpolation =
      dsm_ext::value_of<dsm_ext::Interpolation>("interpolation", interpolation, "Preprocessing");
  p.crop_pct = crop_pct;
  p.crop_mode = dsm_ext::value_of<dsm_ext::CropMode>("crop_mode", crop_mode, "Preprocessing");
  p.mean = std::move(mean);
  p.std = std::move(std);
  p.validate();
  return p;
}

py::dict dict_of(const Preprocessing& p) {
  return py::dict(
      "size"_a = py::tuple(py::cast(p.size)), "interpolation"_a = dsm_ext::name_of(p.interpolation),
      "crop_pct"_a = p.crop_pct, "crop_mode"_a = dsm_ext::name_of(p.crop_mode),
      "mean"_a = py::tuple(py::cast(p.mean)), "std"_a = py::tuple(py::cast(p.std)));
}

// The inverse of `dict_of`. Mean and standard deviation are empty when they are unknown.
Preprocessing preprocessing_from(const py::dict& dict) {
  auto mean = dict["mean"].cast<std::vector<double>>();
  auto std = dict["std"].cast<std::vector<double>>();
  const bool known = !mean.empty();
  auto p = preprocessing(
      dict["size"].cast<std::array<int64_t, 2>>(), dict["interpolation"].cast<std::string>(),
      dict["crop_pct"].cast<double>(), dict["crop_mode"].cast<std::string>(),
      known ? std::move(mean) : std::vector{0.5}, known ? std::move(std) : std::vector{0.5});
  if (!known) {
    p.mean.clear();
    p.std.clear();
  }
  return p;
}

py::tuple state_of(const ModelInfo& info) {
  return py::make_tuple(
      info.architecture, info.config, info.schedule, info.preprocessing, info.labels,
      info.config_json, info.precision ? to_string(*info.precision) : "");
}

ModelInfo info_from(const py::tuple& state) {
  const auto precision = state[6].cast<std::string>();
  return {
      state[0].cast<std::string>(),
      state[1].cast<dsm_ext::Config>(),
      state[2].cast<dsm_ext::Schedule>(),
      state[3].cast<Preprocessing>(),
      state[4].cast<std::vector<std::string>>(),
      state[5].cast<std::string>(),
      precision.empty() ? std::nullopt : std::optional(dsm_ext::parse_precision(precision))};
}

void bind_preprocessing(py::module_& m) {
  const Preprocessing usual;
  auto cls = py::class_<Preprocessing>(m, "Preprocessing");
  pickle_by_every_protocol(cls);
  cls.def(
         py::init(&preprocessing), py::kw_only(), "size"_a = py::tuple(py::cast(usual.size)),
         "interpolation"_a = dsm_ext::name_of(usual.interpolation), "crop_pct"_a = usual.crop_pct,
         "crop_mode"_a = dsm_ext::name_of(usual.crop_mode), "mean"_a = usual.mean,
         "std"_a = usual.std)
      .def("__call__", &Preprocessing::operator(), "picture"_a, Release())
      .def_property_readonly(
          "size", [](const Preprocessing& p) { return py::tuple(py::cast(p.size)); })
      .def_property_readonly(
          "interpolation", [](const Preprocessing& p) { return dsm_ext::name_of(p.interpolation); })
      .def_readonly("crop_pct", &Preprocessing::crop_pct)
      .def_property_readonly(
          "crop_mode", [](const Preprocessing& p) { return dsm_ext::name_of(p.crop_mode); })
      .def_property_readonly(
          "mean", [](const Preprocessing& p) { return py::tuple(py::cast(p.mean)); })
      .def_property_readonly(
          "std", [](const Preprocessing& p) { return py::tuple(py::cast(p.std)); })
      .def_property_readonly("known", &Preprocessing::known)
      .def(py::self == py::self)
      .def("__repr__", [](const Preprocessing& p) { return repr_of("Preprocessing", dict_of(p)); })
      .def(py::pickle(&dict_of, &preprocessing_from));
}

void bind_info(py::module_& m) {
  auto cls = py::class_<ModelInfo>(m, "ModelInfo");
  pickle_by_every_protocol(cls);
  cls.def_readonly("architecture", &ModelInfo::architecture)
      .def_readonly("config", &ModelInfo::config)
      .def_readonly("schedule", &ModelInfo::schedule)
      .def_readonly("preprocessing", &ModelInfo::preprocessing)
      .def_readonly("labels", &ModelInfo::labels)
      .def_readonly("config_json", &ModelInfo::config_json)
      .def_property_readonly(
          "precision",
          [](const ModelInfo& info) {
            return info.precision ? std::optional<std::string>(to_string(*info.precision))
                                  : std::nullopt;
          })
      .def(
          "__eq__",
          [](const ModelInfo& a, const py::object& b) {
            return py::isinstance<ModelInfo>(b) && state_of(a).equal(state_of(b.cast<ModelInfo>()));
          })
      .def(py::pickle(&state_of, &info_from));
  m.def(
      "model_info", [](const Path& path) { return dsm_ext::model_info(path.string()); }, "path"_a,
      Release());
}

}  // namespace

void bind_load(py::module_& m) {
  bind_preprocessing(m);
  bind_info(m);
  m.def(
      "read_safetensors", [](const Path& path) { return dsm_ext::read_safetensors(path.string()); },
      "path"_a, Release());
  m.def(
      "load_with_info",
      [](const Path& path, const std::optional<std::string>& schedule,
         const std::optional<at::ScalarType>& dtype, const at::Device& device, bool check_finite,
         const std::optional<std::string>& precision) {
        dsm_ext::LoadOptions options{dtype, device, check_finite};
        if (precision) {
          options.precision = dsm_ext::parse_precision(*precision);
        }
        auto loaded = dsm_ext::load_with_info(path.string(), schedule, options);
        return std::pair(loaded.model.ptr(), std::move(loaded.info));
      },
      "path"_a, "schedule"_a = py::none(), "dtype"_a = py::none(),
      "device"_a = at::Device(at::kCPU), "check_finite"_a = false, "precision"_a = py::none(),
      Release());
}

void bind_build_info(py::module_& m) {
  using dsm_ext::BuildInfo;
  py::class_<BuildInfo>(m, "BuildInfo")
      .def_readonly("version", &BuildInfo::version)
      .def_readonly("torch", &BuildInfo::torch)
      .def_readonly("cuda", &BuildInfo::cuda)
      .def_readonly("compiler", &BuildInfo::compiler)
      .def_readonly("instruction_set", &BuildInfo::instruction_set)
      .def("__str__", &BuildInfo::str)
      .def(
          "__eq__",
          [](const BuildInfo& a, const py::object& b) {
            return py::isinstance<BuildInfo>(b) && a.str() == b.cast<BuildInfo>().str();
          })
      .def(  // unpickling gives the build information of the library that unpickles
          "__reduce__",
          [](const BuildInfo&) {
            const auto own = py::module_::import("dsm_ext._C").attr("build_info");
            return py::make_tuple(own, py::tuple());
          })
      .def("__repr__", [](const BuildInfo& info) { return "BuildInfo(" + info.str() + ")"; });
  m.def("build_info", &dsm_ext::build_info);
}
