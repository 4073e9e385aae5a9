# Installs the library, its headers and its CMake package below one prefix, which for pip is the
# folder of the Python package. One component, so that pip brings it along.

include(CMakePackageConfigHelpers)

set(package_dir lib/cmake/dsm_ext)
install(
  TARGETS dsm_ext
  EXPORT dsm_extTargets
  LIBRARY DESTINATION lib COMPONENT core
  INCLUDES DESTINATION include)
install(
  DIRECTORY cpp/include/dsm_ext ${PROJECT_BINARY_DIR}/include/dsm_ext
  DESTINATION include
  COMPONENT core
  FILES_MATCHING
  PATTERN "*.h")
install(EXPORT dsm_extTargets NAMESPACE dsm_ext:: DESTINATION ${package_dir} COMPONENT core)
configure_package_config_file(cmake/dsm_extConfig.cmake.in dsm_extConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dsm_extConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/dsm_extConfig.cmake ${PROJECT_BINARY_DIR}/dsm_extConfigVersion.cmake
        cmake/torch.cmake
  DESTINATION ${package_dir}
  COMPONENT core)

# torch's libraries, and CUDA's: beside the package where pip puts them, else where they were at the
# build.
set(rpath $ORIGIN/../../torch/lib ${DSM_EXT_TORCH_ROOT}/lib)
if(DSM_EXT_CUDA_SOURCES_BUILT)
  cmake_path(GET DSM_EXT_CUBLASLT PARENT_PATH cublaslt)
  list(APPEND rpath $ORIGIN/../../nvidia/cu${DSM_EXT_TORCH_CUDA}/lib
       $ORIGIN/../../nvidia/cublas/lib ${cublaslt})
endif()
set_target_properties(dsm_ext PROPERTIES INSTALL_RPATH "${rpath}")
