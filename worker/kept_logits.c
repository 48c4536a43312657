#include "worker/kept_logits.h"

#include <string.h>

#include "base/error.h"

enum { ROUND_ROWS = 1024, RANKS_AT_MOST = 4096 };

static int create_file(struct kept_logits *k, const struct rank *rank, const char *path,
                       const struct network_file *f, enum dataset_split split, bool ema)
{
    const struct checkpoint *c = &f->checkpoint;
    char checksum[33];
    char *names = network_facts_classes(&f->facts);
    if (!names)
        return FAIL(RETORT_MEMORY, "no memory for names");
    checkpoint_arena_checksum(ema ? c->ema : c->weights, c->total, c->real, checksum);
    const struct eval_logits_header header = {.count = shard_count(rank->val),
                                              .classes = f->graph->classes,
                                              .real = k->real,
                                              .split = split,
                                              .weights = ema ? "ema" : "raw",
                                              .dataset = rank->dataset.fingerprint,
                                              .checkpoint = checksum,
                                              .class_names = names,
                                              .labels = shard_labels(rank->val)};
    int rc = eval_logits_create(&k->file, path, &header);
    free(names);
    return rc;
}

int kept_logits_open(struct kept_logits *k, struct rank *rank, const char *path,
                     const struct network_file *f, enum dataset_split split, bool ema)
{
    int64_t first, last;
    int rc = RETORT_OK;
    shard_range(rank->val, &first, &last);
    memset(k, 0, sizeof *k);
    k->file.id = -1;
    k->real = engine_real(rank->engine);
    k->row_bytes = (size_t)f->graph->classes * real_bytes(k->real);
    k->rows = malloc((size_t)(last - first) * k->row_bytes + 1);
    if (rank_is_first(rank))
        k->all = malloc((size_t)comm_size(rank->comm) * ROUND_ROWS * k->row_bytes);
    if (!k->rows || (rank_is_first(rank) && !k->all))
        rc = FAIL(RETORT_MEMORY, "no memory to keep the logits");
    else if (rank_is_first(rank))
        rc = create_file(k, rank, path, f, split, ema);
    return rank_agree(rank, rc);
}

// Rows of rank `r` in a round, the first of them in the split's order.
static int64_t round_rows(const struct rank *rank, int r, int64_t round, int64_t *row)
{
    int64_t first, last;
    shard_rows(shard_count(rank->val), r, comm_size(rank->comm), &first, &last);
    *row = first + round * ROUND_ROWS;
    int64_t left = last - *row;
    return left < 0 ? 0 : left < ROUND_ROWS ? left : ROUND_ROWS;
}

static int store_round(struct kept_logits *k, struct rank *rank, int64_t round)
{
    size_t counts[RANKS_AT_MOST], offsets[RANKS_AT_MOST];
    int size = comm_size(rank->comm), rc = RETORT_OK;
    int64_t row, own = round_rows(rank, comm_rank(rank->comm), round, &row);
    CHECK(size <= RANKS_AT_MOST);
    for (int r = 0; r < size; r++) {
        counts[r] = (size_t)round_rows(rank, r, round, &row) * k->row_bytes;
        offsets[r] = (size_t)r * ROUND_ROWS * k->row_bytes;
    }
    TRY(comm_gatherv(rank->comm, k->rows + (size_t)(round * ROUND_ROWS) * k->row_bytes,
                     (size_t)own * k->row_bytes, k->all, counts, offsets, 0));
    for (int r = 0; rank_is_first(rank) && r < size; r++) {
        int64_t count = round_rows(rank, r, round, &row);
        if (count > 0)
            TRY(eval_logits_put(&k->file, k->real, row, count, k->all + offsets[r]));
    }
fail:
    return rc;
}

int kept_logits_write(struct kept_logits *k, struct rank *rank)
{
    int64_t row, rounds = 0;
    int rc = RETORT_OK;
    for (int r = 0; r < comm_size(rank->comm); r++)
        while (round_rows(rank, r, rounds, &row) > 0)
            rounds++;
    for (int64_t round = 0; round < rounds; round++)
        TRY(rank_agree(rank, store_round(k, rank, round)));
    TRY(rank_agree(rank, rank_is_first(rank) ? h5file_commit(&k->file) : RETORT_OK));
fail:
    return rc;
}

void kept_logits_close(struct kept_logits *k)
{
    if (k->row_bytes > 0)
        h5file_close(&k->file);
    free(k->rows);
    free(k->all);
    memset(k, 0, sizeof *k);
}
