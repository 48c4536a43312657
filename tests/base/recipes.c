#include "tests/base/recipes.h"

// cmocka needs these before it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/base/capture.h"

int enter_folder(void **state)
{
    (void)state;
    return chdir(scratch_create());
}

int leave_folder(void **state)
{
    (void)state;
    int rc = chdir("/");
    scratch_remove();
    return rc;
}

int load_text(struct recipe *r, const char *yaml)
{
    FILE *file = fopen("r.yaml", "w"); // not flushed to disk a thousand times
    assert_non_null(file);
    assert_true(fputs(yaml, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return recipe_load(r, "r.yaml");
}

const char *message_of(const char *captured)
{
    assert_memory_equal(captured, "error: base/", 12);
    const char *at = strstr(captured, ".c: ");
    assert_non_null(at);
    assert_ptr_equal(strchr(at, '\n'), captured + strlen(captured) - 1);
    return at + 4;
}
