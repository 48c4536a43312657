#!/bin/sh
# With the same micro-batches, the number of ranks changes no bit: 1, 2, 4; 3 agree to rounding.
. "$(dirname "$0")/common.sh"
recipe
for ranks in 1 2 4 3; do
    expect 0 run "on$ranks" "$ranks"
done
same_bits on1 on2
same_bits on1 on4
[ "$(bits on1 student | head -2)" != "$(bits on1 baseline | head -2)" ] ||
    fail "the student is the baseline"
# Rounding grows from step to step, as any does in training: three steps are compared.
for ranks in 1 3; do
    expect 0 run "short$ranks" "$ranks" --stages teacher --set teacher.epochs=1 \
        --set teacher.batch=54
done
apart=$("$RETORT_HELPERS/weights" short1/teacher/last.h5 short3/teacher/last.h5)
echo "3 ranks are $apart from 1"
awk "BEGIN { exit !($apart <= 1e-4) }" || fail "3 ranks are $apart from 1"

# With statistics of the whole batch too, which is 5 micro-batches of 4 and 3 samples.
for ranks in 1 2 4; do
    expect 0 run "synced$ranks" "$ranks" --stages teacher --set teacher.norm=batch_sync --set teacher.epochs=1 \
        --set run.microbatches=5
done
same_bits synced1 synced2 teacher
same_bits synced1 synced4 teacher
[ "$(bits synced1 teacher)" != "$(bits on1 teacher)" ] || fail "batch_sync is batch"

# With shuffle: shard, ranks see other samples, by design.
expect 0 run shard1 1 --stages teacher --set data.shuffle=shard
expect 0 run shard2 2 --stages teacher --set data.shuffle=shard
[ "$(bits shard1 teacher)" != "$(bits shard2 teacher)" ] || fail "shuffle: shard moved samples"
