# Finds libtorch. The build uses this file, and so does find_package(dsm_ext) of an installed package.
#
# torch's own TorchConfig.cmake is not used: it stops with an error when torch was built for CUDA and the
# machine has no CUDA toolkit. This is common, because `pip install torch` on Linux installs a torch for
# CUDA. The library needs only torch's headers and three of its libraries. They have the same places in
# a pip package and in an unzipped LibTorch.
#
# These functions do not stop CMake. They set DSM_EXT_TORCH_PROBLEM to one sentence that says what is
# wrong. The build stops with it. find_package(dsm_ext) reports it as the reason why it found nothing.

set(DSM_EXT_TORCH_MINIMUM 2.11)

# Finds the folder of torch. If the user set DSM_EXT_TORCH_ROOT, only that folder is tried, so that
# nobody gets another torch than the one they asked for. Otherwise the first of the given folders that
# has a libtorch is taken. If none has one, Python is asked for its torch package.
#
# Args: folders to try in this order; they need not exist
# In:   DSM_EXT_TORCH_ROOT, Python_EXECUTABLE
# Out:  DSM_EXT_TORCH_ROOT, DSM_EXT_TORCH_VERSION, DSM_EXT_TORCH_CUDA (major version, or empty),
#       DSM_EXT_TORCH_PROBLEM (empty if torch was found)
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

# Asks Python where its torch package is. Sets `root`, or on failure `problem`, in the caller's scope.
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

# Adds a target for torch, with its headers, libraries and OpenMP.
#
# torch runs its threads with OpenMP. `at::parallel_for` is a template of torch's headers: compiled
# without OpenMP it runs on one thread. A program that links another OpenMP library than torch's has a
# second set of threads. So the target links the OpenMP library in torch's package, if there is one.
#
# Args: the name of the target, then options of add_library: find_package passes IMPORTED
# In:   the results of dsm_ext_find_torch
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
    # Clang's code calls functions that GCC's OpenMP library does not have.
    set(openmp ${OpenMP_CXX_LIBRARIES})
    message(WARNING "dsm_ext: a build by Clang starts its own threads beside torch's threads; a build by GCC shares torch's threads")
  endif()
  separate_arguments(flags NATIVE_COMMAND "${OpenMP_CXX_FLAGS}")

  add_library(${name} INTERFACE ${ARGN})
  target_compile_options(${name} INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${flags}>)
  target_include_directories(
    ${name} SYSTEM INTERFACE "${DSM_EXT_TORCH_ROOT}/include"
                             "${DSM_EXT_TORCH_ROOT}/include/torch/csrc/api/include")
  target_link_libraries(${name} INTERFACE ${libraries} ${openmp})
endfunction()
