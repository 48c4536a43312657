// The recipe: any text is refused with one line, or read, and then prints as a recipe that reads
// back as the same.

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"
#include "base/recipe_option.h"
#include "tests/fuzz/fuzz.h"

static void print_and_read_back(const struct recipe *r)
{
    static struct recipe again;
    char *text, *second, difference[4096];
    fuzz_expect(recipe_to_text(r, &text), RETORT_OK);
    fuzz_expect(recipe_from_text(&again, "printed", text), RETORT_OK);
    CHECK(recipe_difference(r, &again, difference, sizeof difference) == 0);
    fuzz_expect(recipe_to_text(&again, &second), RETORT_OK);
    CHECK(strcmp(text, second) == 0);
    free(text);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct recipe r, defaults;
    if (!defaults.data.path[0])
        recipe_defaults(&defaults);
    r = defaults;
    int rc = recipe_read_yaml(&r, "recipe.yaml", (const char *)data, bytes);
    fuzz_expect(rc, RETORT_USAGE);
    if (rc == RETORT_OK) {
        print_and_read_back(&r);
        rc = recipe_resolve(&r, 2, 1);
        fuzz_expect(rc, RETORT_USAGE);
        if (rc == RETORT_OK)
            print_and_read_back(&r);
    }
    // The same bytes as what follows --set.
    char *assignment = strndup((const char *)data, bytes);
    CHECK(assignment);
    r = defaults;
    rc = recipe_set(&r, assignment);
    fuzz_expect(rc, RETORT_USAGE);
    if (rc == RETORT_OK)
        print_and_read_back(&r);
    free(assignment);
    return 0;
}
