# cuDNN's headers and its library, from a toolkit, a package or a Python wheel (nvidia/cudnn):
# CUDNN_ROOT names the folder that has include/ and lib/.
#
#   CUDNN_FOUND  CUDNN_VERSION  CUDNN_INCLUDE_DIR  CUDNN_LIBRARY (may be missing: headers suffice
#   to build the tests)  target CUDNN::cudnn when the library is there

find_path(CUDNN_INCLUDE_DIR cudnn_backend.h
  HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_INCLUDE_DIRS} PATHS /usr/local/cuda
  PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9
  HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_LIBRARY_DIR} PATHS /usr/local/cuda
  PATH_SUFFIXES lib lib64)
if(CUDNN_INCLUDE_DIR)
  set(CUDNN_VERSION "")
  foreach(part MAJOR MINOR PATCHLEVEL)
    file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_version.h line REGEX "#define CUDNN_${part} ")
    string(REGEX REPLACE "[^0-9]*([0-9]+).*" "\\1" number "${line}")
    list(APPEND CUDNN_VERSION ${number})
  endforeach()
  string(REPLACE ";" "." CUDNN_VERSION "${CUDNN_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_INCLUDE_DIR
                                  VERSION_VAR CUDNN_VERSION)
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)
if(CUDNN_FOUND AND CUDNN_LIBRARY AND NOT TARGET CUDNN::cudnn)
  add_library(CUDNN::cudnn UNKNOWN IMPORTED)
  set_target_properties(CUDNN::cudnn PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
                        INTERFACE_INCLUDE_DIRECTORIES ${CUDNN_INCLUDE_DIR})
endif()
