# What of CUDA this machine has. No GPU is needed for any of it.
#
#   RETORT_HAVE_CUDA     nvcc, the runtime, cuDNN and NCCL: kernels and engine are built
#   RETORT_HAVE_SOFTGPU  their headers and a C++ compiler: the software GPU (tests/softgpu) is built

set(RETORT_CUDA AUTO CACHE STRING "The CUDA engine: AUTO (where a toolkit is found), ON, OFF")
set_property(CACHE RETORT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(RETORT_HAVE_CUDA OFF)
set(RETORT_HAVE_SOFTGPU OFF)
if(NOT RETORT_CUDA)
  message(STATUS "CUDA: not wanted (RETORT_CUDA=OFF)")
  return()
endif()
# The engine's tests run on the software GPU, which leaves no room for sanitizers (see below).
if(RETORT_SANITIZE AND RETORT_CUDA STREQUAL AUTO)
  message(STATUS "CUDA: not built with sanitizers")
  return()
endif()

include(CheckLanguage)
find_package(CUDAToolkit 12.4 QUIET)
find_package(CUDNN 9.0 QUIET)
find_package(NCCL 2.18 QUIET)
set(missing "")
if(NOT CUDAToolkit_FOUND)
  list(APPEND missing "CUDA toolkit (12.4 or later)")
endif()
foreach(library CUDNN NCCL)
  if(NOT ${library}_FOUND)
    list(APPEND missing "${library} (its folder: ${library}_ROOT)")
  endif()
endforeach()
if(missing)
  list(JOIN missing ", " missing)
  if(RETORT_CUDA STREQUAL ON)
    message(FATAL_ERROR "RETORT_CUDA=ON; missing: ${missing}")
  endif()
  message(STATUS "CUDA: not built; missing: ${missing}")
  return()
endif()

# Hopper and Ampere as machine code, later ones from PTX.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
endif()
if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
endif()
check_language(CUDA)
check_language(CXX)
if(CMAKE_CUDA_COMPILER AND CMAKE_CXX_COMPILER AND CUDNN_LIBRARY AND NCCL_LIBRARY)
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CXX)
  enable_language(CUDA)
  set(RETORT_HAVE_CUDA ON)
elseif(RETORT_CUDA STREQUAL ON)
  message(FATAL_ERROR "RETORT_CUDA=ON, but nvcc, a C++ compiler or a library is missing: "
                      "nvcc ${CMAKE_CUDA_COMPILER}, C++ ${CMAKE_CXX_COMPILER}, "
                      "cuDNN ${CUDNN_LIBRARY}, NCCL ${NCCL_LIBRARY}")
endif()
# Fibers switch stacks in x86-64 assembly; kernels are instrumented for races by the compiler, which
# leaves no room for other sanitizers.
if(RETORT_TESTS AND CMAKE_CXX_COMPILER AND NOT RETORT_SANITIZE AND
   CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  enable_language(CXX)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    set(RETORT_HAVE_SOFTGPU ON)
  endif()
endif()
message(STATUS "CUDA ${CUDAToolkit_VERSION}, cuDNN ${CUDNN_VERSION}, NCCL ${NCCL_VERSION}: "
               "kernels ${RETORT_HAVE_CUDA}, software GPU ${RETORT_HAVE_SOFTGPU}")
