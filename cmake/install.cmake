# Installs the library, its headers and its CMake package under one prefix. They are one component,
# "core". setup.py installs it into the folder of the Python package.
#
# In: CMAKE_INSTALL_LIBDIR, CMAKE_INSTALL_INCLUDEDIR

include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dsm_ext)
install(
  TARGETS dsm_ext
  EXPORT dsm_extTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT core
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(
  DIRECTORY cpp/include/dsm_ext ${PROJECT_BINARY_DIR}/include/dsm_ext
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
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

# The installed library looks for torch's and CUDA's libraries first beside the package, where pip
# installs them, then where they were during the build. dsm_extConfig.cmake looks in the same two
# places in the same order.
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY /prefix OUTPUT_VARIABLE libraries)
set(beside /)  # the folder around the prefix
cmake_path(RELATIVE_PATH beside BASE_DIRECTORY ${libraries})
set(rpath $ORIGIN/${beside}/torch/lib ${DSM_EXT_TORCH_ROOT}/lib)
if(DSM_EXT_CUDA_SOURCES_BUILT)
  cmake_path(GET DSM_EXT_CUBLASLT PARENT_PATH cublaslt)
  list(APPEND rpath $ORIGIN/${beside}/nvidia/cu${DSM_EXT_TORCH_CUDA}/lib
       $ORIGIN/${beside}/nvidia/cublas/lib ${cublaslt})
endif()
set_target_properties(dsm_ext PROPERTIES INSTALL_RPATH "${rpath}")
