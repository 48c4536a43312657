#include "launcher/checkpoint_choice.h"

#include <stdbool.h>

#include "base/error.h"
#include "base/file.h"
#include "data/h5file.h"

static bool stage_checkpoint(char out[PATH_CAPACITY], const char *folder, const char *stage)
{
    char stage_folder[PATH_CAPACITY];
    return path_join(stage_folder, folder, stage) == RETORT_OK &&
           path_join(out, stage_folder, "last.h5") == RETORT_OK && file_exists(out);
}

// A run's checkpoint: the asked stage's, else the furthest one's.
static int find_checkpoint(char out[PATH_CAPACITY], const char *folder, const char *stage)
{
    const char *const furthest[] = {"student", "baseline", "teacher"};
    if (stage && stage_checkpoint(out, folder, stage))
        return RETORT_OK;
    if (stage)
        return FAIL(RETORT_INPUT, "%s has no checkpoint %s/last.h5 yet", folder, stage);
    for (size_t i = 0; i < sizeof furthest / sizeof furthest[0]; i++)
        if (stage_checkpoint(out, folder, furthest[i]))
            return RETORT_OK;
    return FAIL(RETORT_INPUT,
                "%s has no checkpoint (teacher, baseline or student/last.h5); is it a run folder?",
                folder);
}

int checkpoint_check_ours(const char *path)
{
    if (h5file_is_ours(path))
        return RETORT_OK;
    return FAIL(RETORT_INPUT, "%s is %s", path,
                file_exists(path) ? "not a file of retort" : "not there");
}

int checkpoint_choose(char *out, const char *word, const char *stage)
{
    int rc = folder_exists(word) ? find_checkpoint(out, word, stage) : path_join(out, "", word);
    return rc == RETORT_OK ? checkpoint_check_ours(out) : rc;
}
