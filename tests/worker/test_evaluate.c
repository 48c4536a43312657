// Evaluation on this many ranks against one picture at a time, added up here.

#include <math.h>

#include "base/error.h"
#include "tests/worker/pair.h"
#include "worker/evaluate.h"

// LOSS_CE, LOSS_TOP1, LOSS_TOP5 of row `row` of the shard, alone in its batch.
static void add_picture(double sums[LOSS_SUMS], struct trainer *t, struct shard *shard,
                        const int32_t *labels, int64_t row)
{
    struct engine *e = t->rank->engine;
    double one[LOSS_SUMS] = {0};
    struct step_scalars scalars = {.inverse_batch = 1};
    struct picture_batch batch = {.pixels = shard_pixels(shard),
                                  .slot = &row,
                                  .sample_id = &row,
                                  .count = 1,
                                  .augment = AUGMENT_NONE};
    struct loss_targets targets = {.labels = labels, .sample_id = &row, .count = 1};
    struct loss_spec spec = {.kind = DISTILL_NONE};
    assert_int_equal(input_load(t->eval_input, &batch, NULL), RETORT_OK);
    assert_int_equal(network_forward(t->evaluator, t->eval_input, FORWARD_EVAL), RETORT_OK);
    assert_int_equal(engine_upload(e, t->scalars, &scalars, sizeof scalars), RETORT_OK);
    assert_int_equal(engine_zero(e, t->sums, sizeof one), RETORT_OK);
    assert_int_equal(network_loss(t->evaluator, &targets, &spec, t->scalars, t->sums), RETORT_OK);
    assert_int_equal(engine_download(e, one, t->sums, sizeof one), RETORT_OK);
    for (int i = 0; i < LOSS_SUMS; i++)
        sums[i] += one[i];
}

static void assert_every_picture_once(struct trainer *t, struct trainer *alone, struct shard *shard,
                                      struct shard *whole)
{
    struct engine *e = alone->rank->engine;
    struct evaluation together;
    double sums[LOSS_SUMS] = {0};
    int64_t count = shard_count(whole);
    size_t bytes = (size_t)count * sizeof(int32_t);
    int32_t *labels = engine_alloc(e, bytes);
    assert_non_null(labels);
    assert_int_equal(engine_upload(e, labels, shard_labels(whole), bytes), RETORT_OK);
    assert_int_equal(network_set_weights(alone->evaluator, alone->arenas.weights), RETORT_OK);
    for (int64_t row = 0; row < count; row++)
        add_picture(sums, alone, whole, labels, row);
    engine_free(e, labels);
    assert_int_equal(
        evaluate(&together, t->rank, shard, t->evaluator, t->eval_input, t->arenas.weights, NULL),
        RETORT_OK);
    assert_int_equal(together.count, count);
    assert_int_equal(together.top1_count, (int64_t)sums[LOSS_TOP1]);
    assert_int_equal(together.top5_count, (int64_t)sums[LOSS_TOP5]);
    double loss = sums[LOSS_CE] / (double)count;
    if (!(fabs(together.loss - loss) <= 1e-5 * loss))
        fail_msg("loss %.9g, not %.9g", together.loss, loss);
}

// Three blocks of 128 of the validation split and two of the training split; neither is whole.
static void counts_agree(int64_t norm)
{
    struct trainer *t, *alone;
    pair.together.recipe.student.norm = pair.alone.recipe.student.norm = norm;
    assert_int_equal(trainer_create(&t, &pair.together, STAGE_BASELINE, NULL), RETORT_OK);
    assert_int_equal(trainer_create(&alone, &pair.alone, STAGE_BASELINE, NULL), RETORT_OK);
    assert_int_equal(shard_count(pair.alone.val) % DATASET_BLOCK, 44);
    assert_every_picture_once(t, alone, pair.together.val, pair.alone.val);
    assert_every_picture_once(t, alone, pair.together.train, pair.alone.train);
    trainer_destroy(&t);
    trainer_destroy(&alone);
}

static void every_picture_counts_once(void **state)
{
    (void)state;
    counts_agree(NORM_BATCH);
}

// By running statistics, as with batch: no rank waits for another's blocks.
static void every_picture_counts_once_with_batch_sync(void **state)
{
    (void)state;
    counts_agree(NORM_BATCH_SYNC);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_picture_counts_once),
        cmocka_unit_test(every_picture_counts_once_with_batch_sync),
    };
    return pair_run_tests(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
