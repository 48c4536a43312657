#include "launcher/stages.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

int stages_choose(bool chosen[STAGE_COUNT], const char *command, const char *asked,
                  const struct recipe *recipe)
{
    char names[STAGES_CAPACITY];
    int count = 0;
    memcpy(chosen, recipe->run.stages, sizeof recipe->run.stages);
    if (asked) {
        memset(chosen, 0, sizeof recipe->run.stages);
        (void)snprintf(names, sizeof names, "%s", asked);
        char *rest = names;
        for (char *name; (name = strsep(&rest, ",")) != NULL;) {
            enum stage stage;
            int rc = stage_parse(name, &stage);
            if (rc != RETORT_OK)
                return rc;
            chosen[stage] = true;
        }
    }
    for (int stage = 0; stage < STAGE_COUNT; stage++)
        count += chosen[stage];
    return count ? RETORT_OK : FAIL(RETORT_USAGE, "%s: no stage to run; see --stages", command);
}

void stages_list(char out[STAGES_CAPACITY], const bool chosen[STAGE_COUNT])
{
    out[0] = '\0';
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        size_t used = strlen(out);
        if (chosen[stage])
            (void)snprintf(out + used, STAGES_CAPACITY - used, "%s%s", used ? "," : "",
                           stage_name((enum stage)stage));
    }
}
