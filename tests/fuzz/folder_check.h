#pragma once
// What an image folder that was read owes its caller, for the targets that make one.

#include <stdint.h>

// Reads `location` (a file that may be an archive), and what it holds as an image folder; aborts
// where a promise is broken.
void folder_check(const char *location);
