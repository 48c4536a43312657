#pragma once
// Slurm's sbatch.

#include <stddef.h>

enum { SBATCH_WORDS = 128, JOB_ID = 64 };

// Submits by the words (NULL at the end, words[0] is "sbatch", with --parsable), and gives the
// job's number. RETORT_FAILED with one line when there is no sbatch; its own words, on stderr, and
// RETORT_USAGE when it refuses.
int sbatch_submit(char job[JOB_ID], const char *const *words);
