# How every target of the project is compiled.

add_library(retort_options INTERFACE)
target_include_directories(retort_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(retort_options INTERFACE _GNU_SOURCE)
target_compile_options(retort_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wdouble-promotion
  -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wwrite-strings
  # a*b+c is fused only where the source says fmaf: engines and builds must agree bit for bit
  -ffp-contract=off
  # __FILE__ in messages is data/shard.c, wherever the checkout lies
  -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(RETORT_WERROR)
  target_compile_options(retort_options INTERFACE -Werror)
endif()
if(RETORT_SANITIZE)
  target_compile_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE})
endif()

# retort_library(name SOURCES… LINKS…): a static library of one folder.
function(retort_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC retort_options ${ARG_LINKS})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
