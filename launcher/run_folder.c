#include "launcher/run_folder.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/processor.h"
#include "data/h5file.h"
#include "launcher/allocation.h"
#include "launcher/machine.h"

enum { DIFFERENCE_BYTES = 8192, OLD_FOLDERS = 10000 };

int run_folder_name(char folder[PATH_CAPACITY], const char *out, const char *recipe_path)
{
    char name[PATH_CAPACITY];
    if (out) {
        size_t bytes = strlen(out);
        while (bytes > 1 && out[bytes - 1] == '/')
            bytes--;
        if (bytes >= PATH_CAPACITY)
            return FAIL(RETORT_USAGE, "run: --out is longer than %d bytes", PATH_CAPACITY - 1);
        memcpy(folder, out, bytes);
        folder[bytes] = '\0';
        return RETORT_OK;
    }
    const char *slash = strrchr(recipe_path, '/');
    int length = snprintf(name, sizeof name, "%s", slash ? slash + 1 : recipe_path);
    char *dot = strrchr(name, '.');
    if (dot && dot != name && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0))
        *dot = '\0';
    if (length < 1 || (size_t)length >= sizeof name || !name[0])
        return FAIL(RETORT_USAGE, "run: \"%s\" is no recipe's name", recipe_path);
    return path_join(folder, "runs", name);
}

const char *run_folder_device(const char *folder)
{
    static const char *const devices[] = {"cpu", "cuda", "reference"};
    char path[PATH_CAPACITY], *text = NULL;
    const char *found = "auto";
    size_t bytes;
    if (path_join(path, folder, "device.txt") == RETORT_OK && file_exists(path) &&
        file_read(path, PATH_CAPACITY, &text, &bytes) == RETORT_OK)
        for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
            if (strncmp(text, devices[i], strlen(devices[i])) == 0)
                found = devices[i];
    free(text);
    return found;
}

// "a:4,b:4" is 8; a host without a number has one slot.
static int host_slots(const char *hosts)
{
    long slots = 0;
    for (const char *host = hosts; *host;) {
        size_t length = strcspn(host, ",");
        const char *colon = memchr(host, ':', length);
        slots += colon ? strtol(colon + 1, NULL, 10) : 1;
        host += length + (host[length] == ',');
    }
    return slots < 1 ? 1 : (int)slots;
}

// The allocation's tasks, or one rank a GPU or core, but no more than a batch has parts.
static int default_ranks(const struct run_request *request, const struct recipe *recipe)
{
    struct allocation a;
    int ranks = request->hosts        ? host_slots(request->hosts)
                : allocation_read(&a) ? a.ranks
                : request->gpus > 0   ? request->gpus
                                      : machine_cores();
    if (recipe->run.microbatches > 0 && ranks > recipe->run.microbatches)
        ranks = (int)recipe->run.microbatches;
    return ranks;
}

static int default_threads(int ranks, const struct recipe *recipe)
{
    if (recipe->run.threads > 0)
        return (int)recipe->run.threads;
    struct allocation a;
    int threads = allocation_read(&a) ? allocation_threads(&a) : machine_cores() / ranks;
    return threads < 1 ? 1 : threads;
}

// What the first start settled for `auto` holds for the asked recipe too.
static void inherit(struct recipe *asked, const struct recipe *stored)
{
    if (asked->run.microbatches == 0)
        asked->run.microbatches = stored->run.microbatches;
    if (asked->run.threads == 0)
        asked->run.threads = stored->run.threads;
    if (asked->run.precision == PRECISION_AUTO)
        asked->run.precision = stored->run.precision;
    if (asked->logits.views == 0)
        asked->logits.views = stored->logits.views;
    asked->run.ranks = stored->run.ranks;
}

// What a resumed run (`stored`, else NULL) computes in is a matter of the device it began on. What
// bf16 came to there stays on other processors: they can, or refuse.
static void settle_precision(struct run_plan *p, const char *device, const struct recipe *stored)
{
    const int64_t asked = p->recipe.run.precision;
    const char *began = stored ? run_folder_device(p->folder) : "auto";
    if (strcmp(began, "auto") != 0)
        device = began;
    const bool settled = stored && asked == PRECISION_BF16 && strcmp(device, "cpu") == 0;
    p->recipe.run.precision = settled ? stored->run.precision : precision_on(device, asked);
    const bool narrow = p->recipe.run.precision == PRECISION_BF16;
    const bool gains = processor_gains_by_bf16();
    if (asked == PRECISION_BF16 && !narrow && !gains)
        log_warn("run.precision: this processor gains nothing by bf16; it computes in f32");
    else if (settled && narrow != gains)
        log_warn("run.precision: the run goes on in %s, as it began", narrow ? "bf16" : "f32");
}

static int refuse_difference(const char *folder, const char *recipe_path, char *lines)
{
    size_t length = strlen(lines);
    if (length > 0 && lines[length - 1] == '\n')
        lines[length - 1] = '\0';
    // The list is several lines; the error itself is one, as everywhere.
    fprintf(stderr, "%s\n", lines);
    return FAIL(RETORT_USAGE,
                "%s holds a run of another recipe than %s asks for (see above); --fresh moves the "
                "folder aside and starts anew, --out names another folder",
                folder, recipe_path);
}

static int check_resume(const struct run_plan *p, const struct recipe *stored,
                        const char *recipe_path)
{
    char lines[DIFFERENCE_BYTES] = "";
    if (recipe_difference(stored, &p->recipe, lines, sizeof lines) > 0)
        return refuse_difference(p->folder, recipe_path, lines);
    if (p->ranks > p->recipe.run.microbatches)
        return FAIL(RETORT_USAGE,
                    "%s cuts a batch into %lld micro-batches, which %d ranks cannot share; start "
                    "at most %lld ranks, or anew with --fresh",
                    p->folder, (long long)p->recipe.run.microbatches, p->ranks,
                    (long long)p->recipe.run.microbatches);
    return RETORT_OK;
}

int run_plan_make(struct run_plan *p, const struct run_request *request)
{
    int rc = RETORT_OK;
    char stored_path[PATH_CAPACITY];
    struct recipe stored;
    struct allocation allocation;
    TRY(recipe_load(&p->recipe, request->recipe_path));
    for (int i = 0; i < request->sets->count; i++)
        TRY(recipe_set(&p->recipe, request->sets->items[i]));
    TRY(path_join(stored_path, p->folder, "recipe.yaml"));
    p->resumes = !request->fresh && file_exists(stored_path);
    if (p->resumes) {
        TRY(recipe_load(&stored, stored_path));
        inherit(&p->recipe, &stored);
    }
    settle_precision(p, request->device, p->resumes ? &stored : NULL);
    p->ranks = request->ranks;
    // A job comes back with what Slurm gives it: its ranks follow, within the stored micro-batches.
    if (p->ranks == 0)
        p->ranks = p->resumes && !allocation_read(&allocation) ? (int)stored.run.ranks
                                                               : default_ranks(request, &p->recipe);
    p->threads = request->threads ? request->threads : default_threads(p->ranks, &p->recipe);
    p->recipe.run.threads = p->threads;
    if (p->resumes) {
        TRY(recipe_resolve(&p->recipe, (int)stored.run.ranks, p->threads));
        TRY(check_resume(p, &stored, request->recipe_path));
    } else {
        TRY(recipe_resolve(&p->recipe, p->ranks, p->threads));
    }
fail:
    return rc;
}

static int check_file(const char *key, const char *path, const char *remedy)
{
    if (!file_exists(path))
        return FAIL(RETORT_INPUT, "%s: cannot open %s: %s; %s", key, path, strerror(errno), remedy);
    if (!h5file_is_ours(path))
        return FAIL(RETORT_INPUT, "%s: %s is not a file of retort; %s", key, path, remedy);
    return RETORT_OK;
}

int run_plan_check_inputs(const struct run_plan *p)
{
    int rc = check_file("data.path", p->recipe.data.path,
                        "\"retort pack SRC OUT.h5\" makes it, --set data.path=FILE names another");
    if (rc == RETORT_OK && p->recipe.teacher.from[0])
        rc = check_file("teacher.from", p->recipe.teacher.from, "name a checkpoint of a run");
    if (rc == RETORT_OK && p->recipe.logits.path[0])
        rc = check_file("logits.path", p->recipe.logits.path, "name the logits.h5 of a run");
    return rc;
}

int run_folder_move_aside(const char *folder)
{
    char aside[PATH_CAPACITY];
    if (!file_exists(folder))
        return RETORT_OK;
    for (int n = 1; n < OLD_FOLDERS; n++) {
        int length = snprintf(aside, sizeof aside, "%s.old-%d", folder, n);
        if (length < 0 || (size_t)length >= sizeof aside)
            break;
        if (file_exists(aside))
            continue;
        if (rename(folder, aside) != 0)
            return FAIL(RETORT_WRITE, "cannot rename %s to %s: %s", folder, aside, strerror(errno));
        log_info("moved %s to %s", folder, aside);
        return RETORT_OK;
    }
    return FAIL(RETORT_WRITE, "no free name to move %s to; remove %s.old-*", folder, folder);
}

int run_folder_write_recipe(const struct run_plan *p)
{
    char path[PATH_CAPACITY], *text = NULL;
    int rc = path_join(path, p->folder, "recipe.yaml");
    if (rc == RETORT_OK)
        rc = recipe_to_text(&p->recipe, &text);
    if (rc == RETORT_OK)
        rc = file_write_whole(path, text, strlen(text));
    free(text);
    return rc;
}

static void remove_matching(const char *folder, const char *pattern)
{
    char path[PATH_CAPACITY];
    glob_t found;
    if (path_join(path, folder, pattern) != RETORT_OK || glob(path, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        unlink(found.gl_pathv[i]);
    globfree(&found);
}

void run_folder_clear_partials(const char *folder)
{
    remove_matching(folder, "*.partial");
    remove_matching(folder, "*/*.partial");
}

void run_folder_clear_states(const char *folder)
{
    remove_matching(folder, "ranks/*.state");
}
