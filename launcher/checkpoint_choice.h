#pragma once
// Which checkpoint a word of the command line means.

// A file's own path, or of a run folder the stage's last checkpoint (`stage` NULL: the furthest
// stage that has one), into out[PATH_CAPACITY]. RETORT_INPUT when there is none, or it is no file
// of ours.
int checkpoint_choose(char *out, const char *word, const char *stage);
// RETORT_INPUT when a file is not there or not of ours; its kind is not looked at.
int checkpoint_check_ours(const char *path);
