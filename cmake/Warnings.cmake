# How every target of the project is compiled.

file(RELATIVE_PATH retort_source_from_build ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/)
add_library(retort_options INTERFACE)
target_include_directories(retort_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(retort_options INTERFACE _GNU_SOURCE)
target_compile_options(retort_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wdouble-promotion
  -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wwrite-strings
  $<$<C_COMPILER_ID:Clang>:-Wno-string-conversion> # CHECK(!"what cannot be")
  # a*b+c is fused only where the source says fmaf: engines and builds must agree bit for bit
  -ffp-contract=off
  # __FILE__ in messages is data/shard.c, wherever the checkout lies, also where ccache makes paths
  # relative
  -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/= -fmacro-prefix-map=${retort_source_from_build}=)
if(RETORT_WERROR)
  target_compile_options(retort_options INTERFACE -Werror)
endif()
if(RETORT_SANITIZE)
  target_compile_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all) # what is found ends the program, so that its test fails
  target_link_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE})
endif()
if(RETORT_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "RETORT_FUZZ needs clang: cmake --preset fuzz")
  endif()
  target_compile_options(retort_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# CUDA's sources, and the C++ of test equipment. Nothing is fused that the source does not fuse, on
# the device neither.
add_library(retort_cuda_options INTERFACE)
target_include_directories(retort_cuda_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(retort_cuda_options INTERFACE _GNU_SOURCE)
set(cuda_warnings -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wdouble-promotion
  -Wvla -Wformat=2 -Wundef -Wwrite-strings)
if(RETORT_WERROR)
  list(APPEND cuda_warnings -Werror)
endif()
list(JOIN cuda_warnings "," cuda_warnings_joined)
target_compile_options(retort_cuda_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:${cuda_warnings};-Wpedantic;-ffp-contract=off;-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=>
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;-Xcompiler=${cuda_warnings_joined},-ffp-contract=off>)
if(RETORT_WERROR)
  target_compile_options(retort_cuda_options INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()

# retort_library(name SOURCES… LINKS…): a static library of one folder.
function(retort_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC retort_options ${ARG_LINKS})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
