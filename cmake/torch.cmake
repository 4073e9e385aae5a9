# Finds libtorch and makes the target dsm_ext_torch of it: for the build, and for those who use the
# installed package.
#
# torch's own TorchConfig.cmake stops with an error where torch was built for CUDA and the machine
# has no CUDA toolkit, as on most machines that run `pip install torch` for their CPU. The core
# needs only headers and three libraries, which lie in the same places in a pip package and in an
# unzipped LibTorch.
#
# In:  DSM_EXT_TORCH_ROOT, or Python's torch package
# Out: DSM_EXT_TORCH_ROOT, DSM_EXT_TORCH_VERSION, DSM_EXT_TORCH_CUDA (major version, or empty)

if(TARGET dsm_ext_torch)
  return()
endif()
set(DSM_EXT_TORCH_MINIMUM 2.11)

if(NOT DSM_EXT_TORCH_ROOT)
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE DSM_EXT_TORCH_ROOT
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT DSM_EXT_TORCH_ROOT)
    message(
      FATAL_ERROR
        "dsm_ext needs torch ${DSM_EXT_TORCH_MINIMUM} or newer, and ${Python_EXECUTABLE} has none; "
        "run: ${Python_EXECUTABLE} -m pip install 'torch>=${DSM_EXT_TORCH_MINIMUM}' "
        "(or pass an unzipped LibTorch as -DDSM_EXT_TORCH_ROOT=DIR)")
  endif()
endif()

set(version_file ${DSM_EXT_TORCH_ROOT}/share/cmake/Torch/TorchConfigVersion.cmake)
if(NOT EXISTS ${version_file})
  message(FATAL_ERROR "dsm_ext: no libtorch in ${DSM_EXT_TORCH_ROOT}: ${version_file} is missing")
endif()
file(STRINGS ${version_file} version_line REGEX "set\\(PACKAGE_VERSION \"")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" DSM_EXT_TORCH_VERSION "${version_line}")
if(DSM_EXT_TORCH_VERSION VERSION_LESS DSM_EXT_TORCH_MINIMUM)
  message(
    FATAL_ERROR
      "dsm_ext needs torch ${DSM_EXT_TORCH_MINIMUM} or newer, found ${DSM_EXT_TORCH_VERSION} in "
      "${DSM_EXT_TORCH_ROOT}; run: pip install --upgrade 'torch>=${DSM_EXT_TORCH_MINIMUM}'")
endif()

set(torch_lib ${DSM_EXT_TORCH_ROOT}/lib)
set(DSM_EXT_TORCH_CUDA "")
if(EXISTS ${torch_lib}/libc10_cuda.so)
  file(STRINGS ${torch_lib}/libc10_cuda.so runtime REGEX "libcudart\\.so\\.[0-9]+")
  string(REGEX MATCH "libcudart\\.so\\.([0-9]+)" runtime "${runtime}")
  set(DSM_EXT_TORCH_CUDA ${CMAKE_MATCH_1})
endif()

# torch's threads are OpenMP's. `at::parallel_for` is a template: compiled without OpenMP it runs on
# one thread, and linked with another OpenMP than torch's it would start a second set of threads. So
# the library that torch brings is linked, where it brings one.
find_package(OpenMP COMPONENTS CXX)
if(NOT OpenMP_CXX_FOUND)
  message(FATAL_ERROR "dsm_ext needs a compiler with OpenMP, as GCC is; ${CMAKE_CXX_COMPILER} has none")
endif()
file(GLOB torch_openmp ${torch_lib}/libgomp*.so* ${torch_lib}/libiomp5.so
     ${DSM_EXT_TORCH_ROOT}/../torch.libs/libgomp*.so*)
if(torch_openmp)
  list(GET torch_openmp 0 torch_openmp)
else()
  set(torch_openmp ${OpenMP_CXX_LIBRARIES})
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND torch_openmp MATCHES "libgomp")
  # Clang calls functions that GCC's OpenMP does not have.
  set(torch_openmp ${OpenMP_CXX_LIBRARIES})
  message(WARNING "dsm_ext: built by Clang, it has threads of its own beside torch's; GCC shares them")
endif()
separate_arguments(openmp_flags NATIVE_COMMAND "${OpenMP_CXX_FLAGS}")

add_library(dsm_ext_torch INTERFACE)
target_compile_options(
  dsm_ext_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${openmp_flags}>)
target_include_directories(
  dsm_ext_torch SYSTEM INTERFACE ${DSM_EXT_TORCH_ROOT}/include
                                 ${DSM_EXT_TORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(
  dsm_ext_torch
  INTERFACE ${torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}torch${CMAKE_SHARED_LIBRARY_SUFFIX}
            ${torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}torch_cpu${CMAKE_SHARED_LIBRARY_SUFFIX}
            ${torch_lib}/${CMAKE_SHARED_LIBRARY_PREFIX}c10${CMAKE_SHARED_LIBRARY_SUFFIX}
            ${torch_openmp})
