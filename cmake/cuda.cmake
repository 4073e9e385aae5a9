# Decides whether to build the CUDA kernels, and prints the decision and its reason in one line. The
# build needs a CUDA compiler that fits torch, but no GPU.
#
# In:  DSM_EXT_CUDA (AUTO, ON, OFF), DSM_EXT_TORCH_ROOT, DSM_EXT_TORCH_CUDA
# Out: DSM_EXT_CUDA_SOURCES_BUILT, DSM_EXT_CUDA_VERSION, target dsm_ext_cuda, and what cutlass.cmake sets

set(DSM_EXT_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE DSM_EXT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(DSM_EXT_CUDA_SOURCES_BUILT OFF)
set(DSM_EXT_CUDA_VERSION "")

# Sets DSM_EXT_CUDA_SOURCES_BUILT to ON when the kernels can be built. Sets `why` to the reason why they
# can or cannot.
function(dsm_ext_try_cuda)
  if(DSM_EXT_TORCH_CUDA STREQUAL "")
    set(why "torch ${DSM_EXT_TORCH_VERSION} is built without CUDA" PARENT_SCOPE)
    return()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(why "no CUDA compiler was found" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc)
  string(REGEX MATCH "V([0-9]+)\\.([0-9]+\\.[0-9]+)" _ "${nvcc}")
  set(version ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})
  if(NOT CMAKE_MATCH_1 STREQUAL DSM_EXT_TORCH_CUDA)
    set(why "torch ${DSM_EXT_TORCH_VERSION} is built for CUDA ${DSM_EXT_TORCH_CUDA}, the compiler is ${version}"
        PARENT_SCOPE)
    return()
  endif()
  # Look for cuBLASLt first in pip's packages, because torch loads that one, then in the toolkit. Since
  # CUDA 13 pip puts all of CUDA's libraries into one folder, nvidia/cu13; before, nvidia/cublas.
  set(from_pip ${DSM_EXT_TORCH_ROOT}/../nvidia/cu${DSM_EXT_TORCH_CUDA}
               ${DSM_EXT_TORCH_ROOT}/../nvidia/cublas)
  cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH toolkit)
  set(toolkit ${toolkit}/.. $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
  find_path(DSM_EXT_CUBLASLT_INCLUDE cublasLt.h NO_DEFAULT_PATH PATHS ${from_pip} ${toolkit}
            PATH_SUFFIXES include targets/x86_64-linux/include targets/sbsa-linux/include)
  find_library(
    DSM_EXT_CUBLASLT NAMES libcublasLt.so.${DSM_EXT_TORCH_CUDA} cublasLt NO_DEFAULT_PATH
    PATHS ${from_pip} ${toolkit}
    PATH_SUFFIXES lib lib64 targets/x86_64-linux/lib targets/sbsa-linux/lib)
  if(NOT DSM_EXT_CUBLASLT_INCLUDE OR NOT DSM_EXT_CUBLASLT)
    set(why "no cuBLASLt was found, with its header, beside torch or in the CUDA toolkit" PARENT_SCOPE)
    return()
  endif()
  set(why "torch ${DSM_EXT_TORCH_VERSION} is built for CUDA ${DSM_EXT_TORCH_CUDA}, the compiler is ${version}"
      PARENT_SCOPE)
  set(DSM_EXT_CUDA_VERSION ${version} PARENT_SCOPE)
  set(DSM_EXT_CUDA_SOURCES_BUILT ON PARENT_SCOPE)
endfunction()

if(DSM_EXT_CUDA STREQUAL "OFF")
  set(why "DSM_EXT_CUDA=OFF")
else()
  dsm_ext_try_cuda()
  if(DSM_EXT_CUDA STREQUAL "ON" AND NOT DSM_EXT_CUDA_SOURCES_BUILT)
    message(FATAL_ERROR "dsm_ext: DSM_EXT_CUDA=ON, but ${why}")
  endif()
endif()

if(DSM_EXT_CUDA_SOURCES_BUILT)
  if(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # with PTX of 90, for newer GPUs
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  add_library(dsm_ext_cuda INTERFACE)
  target_link_libraries(
    dsm_ext_cuda INTERFACE ${DSM_EXT_TORCH_ROOT}/lib/libtorch_cuda.so
                           ${DSM_EXT_TORCH_ROOT}/lib/libc10_cuda.so ${DSM_EXT_CUBLASLT} CUDA::cudart)
  # Search pip's folder after the toolkit's headers (-idirafter): the folder also has CUDA headers, which
  # may be of another minor version than the toolkit.
  target_compile_options(
    dsm_ext_cuda INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-idirafter${DSM_EXT_CUBLASLT_INCLUDE}>)
  message(STATUS "dsm_ext: CUDA kernels ON for ${CMAKE_CUDA_ARCHITECTURES}: ${why}")
  include(cmake/cutlass.cmake)
else()
  message(STATUS "dsm_ext: CUDA kernels OFF: ${why}")
endif()
