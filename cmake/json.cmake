# Finds nlohmann-json, a library of headers: as a CMake package (Debian: nlohmann-json3-dev), or in the
# Python package nlohmann-json.
#
# Out: DSM_EXT_JSON_INCLUDE

find_package(nlohmann_json 3.9 QUIET CONFIG)
if(nlohmann_json_FOUND)
  get_target_property(DSM_EXT_JSON_INCLUDE nlohmann_json::nlohmann_json
                      INTERFACE_INCLUDE_DIRECTORIES)
else()
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('nlohmann_json'); print(s.submodule_search_locations[0] + '/include' if s else '')"
    OUTPUT_VARIABLE DSM_EXT_JSON_INCLUDE
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT DSM_EXT_JSON_INCLUDE)
    message(
      FATAL_ERROR
        "dsm_ext needs nlohmann-json; run: ${Python_EXECUTABLE} -m pip install nlohmann-json "
        "(or, on Debian: apt-get install nlohmann-json3-dev)")
  endif()
endif()
