#pragma once
// Words as a shell would take them.

#include <stdio.h>

// Writes the word, in quotes where it needs them.
void shell_word(FILE *out, const char *word);
// The words up to NULL on one line, with blanks between.
void shell_line(FILE *out, const char *const *words);
