#include "worker/evaluate.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"

struct evaluator_buffers {
    int32_t *labels;
    double *sums;
    struct step_scalars *scalars;
    int64_t sample_id[DATASET_BLOCK], slot[DATASET_BLOCK];
};

struct block_sums {
    double loss, top1, top5;
};

static int open_buffers(struct evaluator_buffers *b, struct engine *e, const struct shard *shard)
{
    static const struct step_scalars ONE = {.inverse_batch = 1.0};
    int rc = RETORT_MEMORY;
    size_t bytes = (size_t)shard_count(shard) * sizeof(int32_t);
    b->labels = engine_alloc(e, bytes);
    b->sums = engine_alloc(e, LOSS_SUMS * sizeof(double));
    b->scalars = engine_alloc(e, sizeof ONE);
    if (!b->labels || !b->sums || !b->scalars)
        return rc; // the engine has said so
    TRY(engine_upload(e, b->labels, shard_labels(shard), bytes));
    TRY(engine_upload(e, b->scalars, &ONE, sizeof ONE));
fail:
    return rc;
}

static void close_buffers(struct evaluator_buffers *b, struct engine *e)
{
    engine_free(e, b->labels);
    engine_free(e, b->sums);
    engine_free(e, b->scalars);
}

// Rows [row, row + count) of the split, count <= 128.
static int evaluate_block(struct block_sums *out, struct evaluator_buffers *b, struct engine *e,
                          const struct shard *shard, struct network *net, struct input *input,
                          int64_t row, int64_t count, struct kept_logits *kept)
{
    int64_t held_first, held_last;
    double sums[LOSS_SUMS];
    int rc = RETORT_OK;
    shard_range(shard, &held_first, &held_last);
    for (int64_t i = 0; i < DATASET_BLOCK; i++) {
        b->sample_id[i] = row + (i < count ? i : 0); // padded with the block's first picture
        b->slot[i] = b->sample_id[i] - held_first;
    }
    struct picture_batch batch = {.pixels = shard_pixels(shard),
                                  .slot = b->slot,
                                  .sample_id = b->sample_id,
                                  .count = DATASET_BLOCK,
                                  .augment = AUGMENT_NONE};
    struct loss_targets targets = {
        .labels = b->labels, .sample_id = b->sample_id, .count = (int)count};
    struct loss_spec spec = {.kind = DISTILL_NONE};
    TRY(input_load(input, &batch, NULL));
    TRY(network_forward(net, input, FORWARD_EVAL));
    if (kept)
        TRY(engine_download(e, kept->rows + (size_t)(row - held_first) * kept->row_bytes,
                            network_logits(net), (size_t)count * kept->row_bytes));
    TRY(engine_zero(e, b->sums, sizeof sums));
    TRY(network_loss(net, &targets, &spec, b->scalars, b->sums));
    TRY(engine_download(e, sums, b->sums, sizeof sums));
    *out = (struct block_sums){sums[LOSS_CE], sums[LOSS_TOP1], sums[LOSS_TOP5]};
fail:
    return rc;
}

static int64_t block_count(int64_t rows)
{
    return (rows + DATASET_BLOCK - 1) / DATASET_BLOCK;
}

// This rank's blocks into mine[], in order.
static int evaluate_own(struct block_sums *mine, struct rank *rank, struct shard *shard,
                        struct network *net, struct input *input, struct kept_logits *kept)
{
    struct evaluator_buffers b = {0};
    int64_t first, last;
    int rc = RETORT_OK;
    shard_range(shard, &first, &last);
    TRY(open_buffers(&b, rank->engine, shard));
    for (int64_t row = first; row < last; row += DATASET_BLOCK) {
        int64_t count = last - row < DATASET_BLOCK ? last - row : DATASET_BLOCK;
        TRY(evaluate_block(mine++, &b, rank->engine, shard, net, input, row, count, kept));
    }
fail:
    close_buffers(&b, rank->engine);
    return rc;
}

// Adds all ranks' blocks up in file order, whichever rank did them.
static void add_blocks(struct evaluation *out, const struct block_sums *all, int64_t rows, int size,
                       int64_t stride)
{
    double loss = 0, top1 = 0, top5 = 0;
    for (int r = 0; r < size; r++) {
        int64_t first, last;
        shard_rows(rows, r, size, &first, &last);
        for (int64_t i = 0; i < block_count(last - first); i++) {
            const struct block_sums *b = &all[r * stride + i];
            loss += b->loss;
            top1 += b->top1;
            top5 += b->top5;
        }
    }
    out->count = rows;
    out->loss = loss / (double)rows;
    out->top1_count = (int64_t)top1;
    out->top5_count = (int64_t)top5;
}

int evaluate(struct evaluation *out, struct rank *rank, struct shard *shard,
             struct network *evaluator, struct input *input, const void *arena,
             struct kept_logits *kept)
{
    double start = clock_seconds();
    int size = comm_size(rank->comm), rc = RETORT_OK;
    int64_t rows = shard_count(shard), stride = block_count(rows); // no rank has more than all
    struct block_sums *mine = calloc((size_t)stride, sizeof *mine);
    struct block_sums *all = calloc((size_t)(stride * size), sizeof *all);
    memset(out, 0, sizeof *out);
    rc = mine && all ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory to evaluate");
    TRY(rank_agree(rank, rc));
    CHECK(mine && all); // as agreed
    rc = network_set_weights(evaluator, arena);
    if (rc == RETORT_OK)
        rc = evaluate_own(mine, rank, shard, evaluator, input, kept);
    TRY(rank_agree(rank, rc));
    TRY(comm_allgather(rank->comm, mine, (size_t)stride * sizeof *mine, all));
    add_blocks(out, all, rows, size, stride);
    out->seconds = clock_seconds() - start;
fail:
    free(mine);
    free(all);
    return rc;
}

json_t *evaluation_json(const struct evaluation *e)
{
    return json_pack("{s:f,s:f,s:f}", "top1", (double)e->top1_count / (double)e->count, "top5",
                     (double)e->top5_count / (double)e->count, "loss", e->loss);
}
