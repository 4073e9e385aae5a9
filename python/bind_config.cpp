#include <pybind11/operators.h>

#include "bind.h"
#include "config/config_fields.h"

using namespace py::literals;
using dsm_ext::Config;

namespace {

// Converts a field's value to Python: enumerators become their names, pairs become tuples.
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

}  // namespace

void bind_config(py::module_& m) {
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
      .def("__repr__", [](const Config& c) { return repr_of("Config", dict_of_config(c)); })
      .def(py::pickle(&dict_of_config, [](const py::dict& dict) {
        return config_from(py::kwargs(dict));
      }));
  pickle_by_every_protocol(config);
  dsm_ext::for_each_field(std::as_const(defaults), [&](const char* name, const auto&) {
    config.def_property_readonly(name, [key = py::str(name)](const Config& c) {
      return py::object(dict_of_config(c)[key]);
    });
  });
}
