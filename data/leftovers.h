#pragma once
// What killed writers leave: "<name>.<pid>.partial" (base/file.h).

// Removes those in `folder` whose name begins with `prefix`, unless another process with that pid
// lives on this host. This process must have no such file under construction. No message.
void leftovers_remove(const char *folder, const char *prefix);
