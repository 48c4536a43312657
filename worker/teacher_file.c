#include "worker/teacher_file.h"

#include <string.h>

#include "base/error.h"
#include "worker/network_file.h"
#include "worker/plan.h"
#include "worker/trainer.h"

int teacher_path(char *out, const struct rank *rank)
{
    char folder[PATH_CAPACITY];
    if (rank->recipe.teacher.from[0]) {
        (void)snprintf(out, PATH_CAPACITY, "%s", rank->recipe.teacher.from);
        return RETORT_OK;
    }
    int rc = stage_folder(folder, rank, STAGE_TEACHER);
    return rc ? rc : path_join(out, folder, "last.h5");
}

static int check_fits(const struct checkpoint *c, const struct graph *g, const struct rank *rank,
                      const char *path)
{
    if (c->total != g->total || c->trainable != g->trainable)
        return FAIL(RETORT_INPUT, "%s holds another network than %s", path, g->arch);
    if (rank->recipe.logits.weights == WEIGHTS_EMA && !c->ema)
        return FAIL(RETORT_INPUT, "%s has no EMA weights; set logits.weights: raw", path);
    if (!rank->recipe.teacher.from[0] && !json_is_true(json_object_get(c->state, "finished")))
        return FAIL(RETORT_INPUT, "the teacher of %s is not finished; run stage teacher first",
                    rank->folder);
    return RETORT_OK;
}

// The pictures as the teacher was trained to see them: those of this run's size, normalised as the
// checkpoint says where it does.
static int read_format(struct picture_format *out, const struct checkpoint *c,
                       const struct rank *rank, const char *path)
{
    struct network_facts facts;
    int rc = c->pictures ? network_facts_of_checkpoint(&facts, c, path)
                         : network_facts_of_dataset(&facts, &rank->dataset);
    if (rc != RETORT_OK)
        return rc;
    *out = network_picture_format(&facts);
    network_facts_free(&facts);
    if (out->height == rank->dataset.height && out->width == rank->dataset.width)
        return RETORT_OK;
    return FAIL(RETORT_INPUT, "%s is for pictures of %d x %d, not %d x %d", path, out->width,
                out->height, rank->dataset.width, rank->dataset.height);
}

int teacher_file_read(struct rank *rank, const struct graph *graph, void *arena, char checksum[33],
                      char **plan, struct picture_format *format)
{
    char path[PATH_CAPACITY];
    struct checkpoint c = {0};
    int rc = RETORT_OK;
    TRY(teacher_path(path, rank));
    TRY_ELSE(file_exists(path), RETORT_INPUT, "no teacher: %s is missing; run stage teacher first",
             path);
    TRY(checkpoint_read(&c, path, false));
    TRY(check_fits(&c, graph, rank, path));
    TRY(read_format(format, &c, rank, path));
    const void *weights = rank->recipe.logits.weights == WEIGHTS_EMA ? c.ema : c.weights;
    checkpoint_arena_checksum(weights, c.total, c.real, checksum);
    *plan = plan_of_state(c.state, rank->engine);
    TRY(network_upload(rank->engine, arena, weights, c.total, c.real, path));
fail:
    checkpoint_free(&c);
    return rc;
}
