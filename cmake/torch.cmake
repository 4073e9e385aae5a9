# Finds libtorch: for the build, and for those who use the installed package.
#
# torch's own TorchConfig.cmake stops with an error where torch was built for CUDA and the machine
# has no CUDA toolkit, as on most machines that run `pip install torch` for their CPU. The core
# needs only headers and three libraries, which lie in the same places in a pip package and in an
# unzipped LibTorch.
#
# Nothing here stops CMake: what is wrong is left in DSM_EXT_TORCH_PROBLEM, one sentence, which the
# build takes for an error and find_package(dsm_ext) for the reason why it found nothing.

set(DSM_EXT_TORCH_MINIMUM 2.11)

# Where torch is. DSM_EXT_TORCH_ROOT goes before all else where somebody set it, and whatever is
# wrong with that folder is said, for a guess in its place would surprise. Otherwise it is the first
# of the given folders that holds a libtorch, or, where none does, Python's torch package.
#
# Args: folders, in order; they need not exist
# In:   DSM_EXT_TORCH_ROOT, Python_EXECUTABLE
# Out:  DSM_EXT_TORCH_ROOT, DSM_EXT_TORCH_VERSION, DSM_EXT_TORCH_CUDA (major version, or empty),
#       DSM_EXT_TORCH_PROBLEM (empty where torch was found)
function(dsm_ext_find_torch)
  set(in_torch share/cmake/Torch/TorchConfigVersion.cmake)
  set(problem "")
  set(version "")
  set(cuda "")
  set(root "${DSM_EXT_TORCH_ROOT}")
  if(NOT root)
    foreach(folder IN LISTS ARGN)
      if(EXISTS "${folder}/${in_torch}")
        get_filename_component(root "${folder}" REALPATH)
        break()
      endif()
    endforeach()
  endif()
  if(NOT root)
    dsm_ext_ask_python()
  endif()

  if(NOT problem AND NOT EXISTS "${root}/${in_torch}")
    set(problem "dsm_ext: no libtorch in ${root}: ${root}/${in_torch} is missing")
  elseif(NOT problem)
    file(STRINGS "${root}/${in_torch}" line REGEX "set\\(PACKAGE_VERSION \"")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${line}")
    if(version VERSION_LESS DSM_EXT_TORCH_MINIMUM)
      set(problem
          "dsm_ext needs torch ${DSM_EXT_TORCH_MINIMUM} or newer, found ${version} in ${root}; run: pip install --upgrade 'torch>=${DSM_EXT_TORCH_MINIMUM}'")
    endif()
  endif()

  if(EXISTS "${root}/lib/libc10_cuda.so")
    file(STRINGS "${root}/lib/libc10_cuda.so" runtime REGEX "libcudart\\.so\\.[0-9]+")
    string(REGEX MATCH "libcudart\\.so\\.([0-9]+)" runtime "${runtime}")
    set(cuda ${CMAKE_MATCH_1})
  endif()
  set(DSM_EXT_TORCH_ROOT "${root}" PARENT_SCOPE)
  set(DSM_EXT_TORCH_VERSION "${version}" PARENT_SCOPE)
  set(DSM_EXT_TORCH_CUDA "${cuda}" PARENT_SCOPE)
  set(DSM_EXT_TORCH_PROBLEM "${problem}" PARENT_SCOPE)
endfunction()

# Python's torch package: sets `root`, or `problem`, where it is called.
macro(dsm_ext_ask_python)
  find_package(Python COMPONENTS Interpreter QUIET)
  if(NOT Python_EXECUTABLE)
    set(problem
        "dsm_ext needs torch ${DSM_EXT_TORCH_MINIMUM} or newer, and found neither torch nor a Python to ask for it; pass torch's folder, or an unzipped LibTorch, as -DDSM_EXT_TORCH_ROOT=DIR")
  else()
    execute_process(
      COMMAND
        ${Python_EXECUTABLE} -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE root
      ERROR_QUIET
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT root)
      set(problem
          "dsm_ext needs torch ${DSM_EXT_TORCH_MINIMUM} or newer, and ${Python_EXECUTABLE} has none; run: ${Python_EXECUTABLE} -m pip install 'torch>=${DSM_EXT_TORCH_MINIMUM}' (or pass an unzipped LibTorch as -DDSM_EXT_TORCH_ROOT=DIR)")
    endif()
  endif()
endmacro()

# Makes a target of the torch that was found: headers, libraries and OpenMP.
#
# torch's threads are OpenMP's. `at::parallel_for` is a template: compiled without OpenMP it runs on
# one thread, and linked with another OpenMP than torch's it would start a second set of threads. So
# the library that torch brings is linked, where it brings one.
#
# Args: the target's name; IMPORTED, for find_package, where it is to be seen as far as the package is
# In:   what dsm_ext_find_torch found
# Out:  the target, or DSM_EXT_TORCH_PROBLEM
function(dsm_ext_add_torch name)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT CXX IN_LIST languages)
    set(DSM_EXT_TORCH_PROBLEM
        "dsm_ext needs C++, which this project has not enabled: project(NAME LANGUAGES CXX)"
        PARENT_SCOPE)
    return()
  endif()
  set(libraries "")
  foreach(part torch torch_cpu c10)
    set(file
        "${DSM_EXT_TORCH_ROOT}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}${part}${CMAKE_SHARED_LIBRARY_SUFFIX}")
    if(NOT EXISTS "${file}")
      set(DSM_EXT_TORCH_PROBLEM "dsm_ext: no libtorch in ${DSM_EXT_TORCH_ROOT}: ${file} is missing"
          PARENT_SCOPE)
      return()
    endif()
    list(APPEND libraries "${file}")
  endforeach()
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(NOT OpenMP_CXX_FOUND)
    set(DSM_EXT_TORCH_PROBLEM
        "dsm_ext needs a compiler with OpenMP, as GCC is; ${CMAKE_CXX_COMPILER} has none"
        PARENT_SCOPE)
    return()
  endif()
  file(GLOB openmp "${DSM_EXT_TORCH_ROOT}/lib/libgomp*.so*" "${DSM_EXT_TORCH_ROOT}/lib/libiomp5.so"
       "${DSM_EXT_TORCH_ROOT}/../torch.libs/libgomp*.so*")
  if(openmp)
    list(GET openmp 0 openmp)
  else()
    set(openmp ${OpenMP_CXX_LIBRARIES})
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND openmp MATCHES "libgomp")
    # Clang calls functions that GCC's OpenMP does not have.
    set(openmp ${OpenMP_CXX_LIBRARIES})
    message(WARNING "dsm_ext: built by Clang, it has threads of its own beside torch's; GCC shares them")
  endif()
  separate_arguments(flags NATIVE_COMMAND "${OpenMP_CXX_FLAGS}")

  add_library(${name} INTERFACE ${ARGN})
  target_compile_options(${name} INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${flags}>)
  target_include_directories(
    ${name} SYSTEM INTERFACE "${DSM_EXT_TORCH_ROOT}/include"
                             "${DSM_EXT_TORCH_ROOT}/include/torch/csrc/api/include")
  target_link_libraries(${name} INTERFACE ${libraries} ${openmp})
endfunction()
