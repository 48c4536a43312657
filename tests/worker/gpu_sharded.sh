#!/bin/sh
# A sharded optimizer on ranks with a GPU each, and on two that share one: the bits of one rank that
# has it whole. On the software GPU, or with RETORT_DEVICE=cuda on GPUs (skipped where there is none).
. "$(dirname "$0")/common.sh"
gpus_or_skip

"$retort" synth pictures --classes 4 --per-class 16 --val-per-class 8 --size 16 --seed 1
"$retort" pack pictures small.h5
recipe
sed -i 's#path: .*#path: small.h5}#; s#conv12/4#conv4/4#; s/stages: .*/stages: [teacher]/
    0,/optimizer: {/s//optimizer: {kind: adamw, shard: false, /' recipe.yaml
expect 0 run whole 1
sed -i 's/shard: false/shard: true/' recipe.yaml

# Killed in the second epoch of four steps, it goes on; on software GPUs, with streams that run ahead and behind of each other.
killed own 2 teacher 5
$soft && as='env SOFTGPU_POLICY=random:1'
expect 0 run own 2
as=''
grep -q 'goes on from step' "$work/output" || fail "it began anew: $(cat "$work/output")"
same_bits whole own teacher
metrics_are_whole own
value() { # FOLDER: the averages' losses
    sed -n 's/.*"ema_loss":\([0-9.e+-]*\).*/\1/p' "$1/metrics.jsonl"
}
[ "$(value whole | wc -l)" = 2 ] || fail "no averages were evaluated"
[ "$(value whole)" = "$(value own)" ] || fail "other losses of the average"

if $soft; then
    as='env SOFTGPU_DEVICES=1'
    expect 0 run shared 2
    as=''
    grep -q 'ranks 0 and 1 share a GPU' "$work/output" || fail "they share none"
    same_bits whole shared teacher
fi
