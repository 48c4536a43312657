# `cmake --install build/release --prefix DIR`: the command, the rank's program where the command
# looks for it (../libexec/retort), recipes and documents.

install(TARGETS retort RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS retort-worker RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/retort)
if(TARGET retort_cuda) # the plug-in lies beside the program that opens it
  install(TARGETS retort_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/retort)
endif()
install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/retort FILES_MATCHING PATTERN *.yaml)
install(DIRECTORY slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/retort FILES_MATCHING PATTERN *.sbatch)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN *.md)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
