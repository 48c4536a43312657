#pragma once
// What the tests of recipes share. Each runs in an empty folder of its own, so that messages say
// plain "r.yaml".

#include "base/recipe.h"

int enter_folder(void **state);
int leave_folder(void **state);
#define RECIPE_TEST(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)

// recipe_load of a file r.yaml that holds the text.
int load_text(struct recipe *r, const char *yaml);
// What follows "error: base/<source>.c: " in the one line that was captured.
const char *message_of(const char *captured);
