#include "worker/run.h"

#include <string.h>

#include "base/error.h"
#include "worker/rank.h"
#include "worker/stage_logits.h"
#include "worker/stage_train.h"

static int choose_stages(struct recipe *r, const char *list)
{
    char copy[256], *rest = NULL;
    int rc = RETORT_OK;
    if (!list || !list[0])
        return RETORT_OK;
    if (strlen(list) >= sizeof copy)
        return FAIL(RETORT_USAGE, "--stages: the list is too long");
    (void)strcpy(copy, list);
    memset(r->run.stages, 0, sizeof r->run.stages);
    for (char *name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        enum stage stage;
        TRY(stage_parse(name, &stage));
        r->run.stages[stage] = true;
    }
fail:
    return rc;
}

// The student with the teacher's logits, verified first.
static int distil(struct rank *rank)
{
    struct teacher teacher = {0};
    struct logit_store store = {.file = {.id = -1}};
    struct views *views = NULL;
    char checksum[33];
    int rc = RETORT_OK;
    TRY(teacher_open(&teacher, rank));
    (void)strcpy(checksum, teacher.checksum);
    TRY(logits_open_verified(&store, rank, &teacher));
    teacher_close(&teacher, rank); // its memory goes to the student
    rc = views_create(&views, rank, rank_is_first(rank) ? &store : NULL, rank->recipe.logits.views);
    TRY(rank_agree(rank, rc));
    TRY(stage_train(rank, STAGE_STUDENT, views, checksum));
fail:
    views_destroy(&views);
    teacher_close(&teacher, rank);
    logit_store_close(&store);
    return rc;
}

static int run_stage(struct rank *rank, enum stage stage)
{
    switch (stage) {
    case STAGE_TEACHER:
        if (rank->recipe.teacher.from[0])
            return RETORT_OK; // an existing checkpoint stands in
        return stage_train(rank, stage, NULL, "");
    case STAGE_LOGITS:
        return stage_logits(rank);
    case STAGE_STUDENT:
        if (rank->recipe.student.distill.kind != DISTILL_NONE)
            return distil(rank);
        return stage_train(rank, stage, NULL, "");
    case STAGE_BASELINE:
        return stage_train(rank, stage, NULL, "");
    case STAGE_COUNT:
        break;
    }
    CHECK(!"a stage that stage_parse knows");
}

static int summarise(struct rank *rank)
{
    struct metrics *m = rank->metrics;
    summary_set(m, "ranks", json_integer(comm_size(rank->comm)));
    summary_set(m, "threads", json_integer(rank->recipe.run.threads));
    summary_set(m, "microbatches", json_integer(rank->recipe.run.microbatches));
    summary_set(m, "device", json_string(engine_name(rank->engine)));
    summary_set(m, "processor", json_string(engine_describe(rank->engine)));
    summary_set(m, "precision", json_string(rank_precision(rank)));
    return summary_write(m);
}

int run_stages(struct comm *comm, const char *folder, const char *device, const char *stages,
               bool *agreed)
{
    struct rank rank;
    int rc = RETORT_OK;
    stop_signal_install();
    TRY(rank_open(&rank, comm, folder, device));
    TRY(rank_agree(&rank, choose_stages(&rank.recipe, stages)));
    for (int s = 0; s < STAGE_COUNT; s++)
        if (rank.recipe.run.stages[s])
            TRY(run_stage(&rank, (enum stage)s));
    TRY(rank_agree(&rank, summarise(&rank)));
fail:
    *agreed = rank.agreed;
    rank_close(&rank, rc);
    return rc;
}
