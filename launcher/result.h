#pragma once
// The table at the end of a run, from its summary.json.

// Prints the table and the folder's path. RETORT_INPUT when the summary is damaged.
int result_print(const char *folder);
