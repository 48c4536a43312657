#pragma once
// Checking a file of ours to the last byte.

// Recomputes the checksum of the user block, of the structure, and of every block of samples.
// RETORT_OK and one line when the file is whole; RETORT_INPUT and a line for each damaged part.
int verify(const char *path);
