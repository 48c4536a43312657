#pragma once
// The table at the end of a run, from its summary.json.

// Prints the table and the folder's path. RETORT_INPUT when there is no summary to read.
int result_print(const char *folder);
