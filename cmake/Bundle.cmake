# `cmake --build build/release --target bundle`: one archive for machines that have none of the
# libraries (docs/install.md).

set(RETORT_BUNDLE
  ${CMAKE_BINARY_DIR}/retort-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}.tar.gz)
set(carried retort retort-worker)
if(TARGET retort_cuda)
  list(APPEND carried retort_cuda)
endif()
file(GLOB texts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/recipes/*.yaml ${CMAKE_SOURCE_DIR}/docs/*.md
  ${CMAKE_SOURCE_DIR}/slurm/*.sbatch)
add_custom_command(OUTPUT ${RETORT_BUNDLE}
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/bundle ${CMAKE_BINARY_DIR} ${RETORT_BUNDLE}
  DEPENDS ${carried} ${texts} ${CMAKE_SOURCE_DIR}/scripts/bundle
  COMMENT "Packing ${RETORT_BUNDLE}" VERBATIM)
add_custom_target(bundle DEPENDS ${RETORT_BUNDLE})
