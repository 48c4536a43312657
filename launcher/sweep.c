#include "launcher/sweep.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

int sweep_parse(struct sweep *out, const char *command, const char *text)
{
    const char *values = strchr(text, '=');
    size_t used = 0;
    out->count = 0;
    if (!values || values == text)
        return FAIL(RETORT_USAGE, "%s: --array %s: expected KEY=V1,V2,…", command, text);
    int key = (int)(values - text);
    for (const char *value = values; value; value = strchr(value + 1, ',')) {
        size_t length = strcspn(value + 1, ",");
        if (length == 0)
            return FAIL(RETORT_USAGE, "%s: --array %s: a value is empty", command, text);
        if (out->count == SWEEP_MAX || used + (size_t)key + length + 2 > sizeof out->text)
            return FAIL(RETORT_USAGE, "%s: --array: more than %d values, or too long ones", command,
                        SWEEP_MAX);
        out->items[out->count++] = out->text + used;
        used += (size_t)snprintf(out->text + used, sizeof out->text - used, "%.*s=%.*s", key, text,
                                 (int)length, value + 1) +
                1;
    }
    return RETORT_OK;
}

int sweep_folder(char out[PATH_CAPACITY], const char *folder, const char *setting)
{
    int rc = path_join(out, folder, setting);
    if (rc != RETORT_OK)
        return rc;
    for (char *c = out + strlen(out) - strlen(setting); *c; c++)
        *c = *c == '/' ? '_' : *c;
    return RETORT_OK;
}
