#include "tests/worker/pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

struct pair pair;

static struct {
    const char *data, *device;
    char folder[64];
} place;

static int write_recipe(const char *folder)
{
    static struct recipe recipe;
    char text[PATH_CAPACITY + 512], path[PATH_CAPACITY], *resolved = NULL;
    int rc = RETORT_OK;
    (void)snprintf(text, sizeof text,
                   "data: {path: %s}\n"
                   "teacher: {arch: conv12/4, epochs: 2, batch: 18, optimizer: {lr: 0.02}, "
                   "ema: {decay: 0.5}}\n"
                   "student: {arch: conv4/4, epochs: 2, batch: 18, optimizer: {lr: 0.02}}\n"
                   "run: {microbatches: 4, threads: 1, precision: %s}\n",
                   place.data, strcmp(place.device, "reference") == 0 ? "f64" : "f32");
    TRY(recipe_from_text(&recipe, "the test's recipe", text));
    TRY(recipe_resolve(&recipe, 1, 1));
    TRY(folder_create(folder));
    TRY(path_join(path, folder, "recipe.yaml"));
    TRY(recipe_to_text(&recipe, &resolved));
    TRY(file_write_whole(path, resolved, strlen(resolved)));
fail:
    free(resolved);
    return rc;
}

static int open_both(void **state)
{
    (void)state;
    char together[128], alone[128], cache[128];
    int rc = RETORT_OK;
    (void)strcpy(place.folder, "/tmp/retort-step.XXXXXX");
    if (comm_rank(pair.all) == 0 && !mkdtemp(place.folder))
        return -1;
    TRY(comm_broadcast(pair.all, place.folder, sizeof place.folder, 0));
    (void)snprintf(together, sizeof together, "%s/together", place.folder);
    (void)snprintf(alone, sizeof alone, "%s/alone%d", place.folder, comm_rank(pair.all));
    (void)snprintf(cache, sizeof cache, "%s/cache", place.folder);
    TRY(setenv("XDG_CACHE_HOME", cache, 1)); // one engine plan for all
    if (comm_rank(pair.all) == 0)
        TRY(write_recipe(together));
    TRY(write_recipe(alone));
    TRY(comm_barrier(pair.all));
    TRY(rank_open(&pair.together, pair.all, together, place.device));
    TRY(rank_open(&pair.alone, pair.self, alone, place.device));
fail:
    return rc;
}

static int close_both(void **state)
{
    (void)state;
    char command[128];
    rank_close(&pair.together, 0);
    rank_close(&pair.alone, 0);
    (void)comm_barrier(pair.all);
    (void)snprintf(command, sizeof command, "rm -rf %s", place.folder);
    return comm_rank(pair.all) == 0 ? system(command) : 0;
}

int pair_run_tests(int argc, char **argv, const struct CMUnitTest *tests, size_t count)
{
    const char *device = getenv("RETORT_DEVICE");
    if (argc != 2 || comm_mpi_create(&pair.all) != RETORT_OK ||
        comm_self_create(&pair.self) != RETORT_OK)
        return 1;
    place.data = argv[1];
    place.device = device ? device : "cpu";
    int failed = _cmocka_run_group_tests("pair", tests, count, open_both, close_both);
    if (failed)
        comm_abort(pair.all, 1); // the others may wait for us
    comm_destroy(&pair.self);
    comm_destroy(&pair.all);
    return failed;
}
