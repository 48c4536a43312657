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
for stage in teacher baseline student; do
    apart=$("$RETORT_HELPERS/weights" "on1/$stage/last.h5" "on3/$stage/last.h5")
    echo "$stage: 3 ranks are $apart from 1"
    awk "BEGIN { exit !($apart <= 1e-3) }" || fail "the $stage of 3 ranks is $apart from that of 1"
done

# With shuffle: shard, ranks see other samples, by design.
expect 0 run shard1 1 --stages teacher --set data.shuffle=shard
expect 0 run shard2 2 --stages teacher --set data.shuffle=shard
[ "$(bits shard1 teacher)" != "$(bits shard2 teacher)" ] || fail "shuffle: shard moved samples"
