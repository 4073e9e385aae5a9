# Finds CUTLASS, a library of headers, and prints in one line whether and why it is used. With it the
# library has one kernel for a linear layer and the exact GELU on Hopper. Without it these are two
# kernels.
#
# In:  CUTLASS_DIR (a clone of CUTLASS), CMAKE_CUDA_ARCHITECTURES
# Out: DSM_EXT_CUTLASS_INCLUDE, empty when CUTLASS is not used

set(CUTLASS_DIR "" CACHE PATH "A clone of CUTLASS; empty for the Python package nvidia-cutlass")
set(DSM_EXT_CUTLASS_MINIMUM 4.2)  # the oldest version for CUDA 13

# Sets DSM_EXT_CUTLASS_INCLUDE, and `why` to the reason why it is set or empty.
function(dsm_ext_try_cutlass)
  set(DSM_EXT_CUTLASS_INCLUDE "" PARENT_SCOPE)
  if(NOT CMAKE_CUDA_ARCHITECTURES MATCHES "90|all|native")
    set(why "no code for compute capability 9.0 is built" PARENT_SCOPE)
    return()
  endif()
  if(CUTLASS_DIR)
    set(include ${CUTLASS_DIR}/include)
  elseif(DEFINED ENV{CUTLASS_DIR})
    set(include $ENV{CUTLASS_DIR}/include)
  else()
    find_package(Python QUIET COMPONENTS Interpreter)
    execute_process(
      COMMAND
        ${Python_EXECUTABLE} -c
        "import importlib.util as u; s = u.find_spec('cutlass_library'); print(s.submodule_search_locations[0] + '/source/include' if s else '')"
      OUTPUT_VARIABLE include
      ERROR_QUIET
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT include)
      set(why "it was not found; pip install nvidia-cutlass, or pass a clone as -DCUTLASS_DIR=DIR"
          PARENT_SCOPE)
      return()
    endif()
  endif()
  if(NOT EXISTS ${include}/cutlass/version.h)
    set(why "${include}/cutlass/version.h is missing" PARENT_SCOPE)
    return()
  endif()
  file(STRINGS ${include}/cutlass/version.h lines REGEX "define CUTLASS_(MAJOR|MINOR)")
  string(REGEX MATCH "MAJOR +([0-9]+).*MINOR +([0-9]+)" _ "${lines}")
  set(version ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})
  if(version VERSION_LESS DSM_EXT_CUTLASS_MINIMUM)
    set(why "it is ${version}, older than ${DSM_EXT_CUTLASS_MINIMUM}" PARENT_SCOPE)
    return()
  endif()
  set(why "${version} in ${include}" PARENT_SCOPE)
  set(DSM_EXT_CUTLASS_INCLUDE ${include} PARENT_SCOPE)
endfunction()

dsm_ext_try_cutlass()
if(DSM_EXT_CUTLASS_INCLUDE)
  message(STATUS "dsm_ext: CUTLASS ON: ${why}")
else()
  message(STATUS "dsm_ext: CUTLASS OFF: ${why}")
endif()
