#!/bin/sh
# The same counts and the same loss of a checkpoint on any number of ranks.
. "$(dirname "$0")/common.sh"
recipe
expect 0 run run 2 --stages teacher

evaluate() { # RANKS raw|ema val|train
    expect 0 "$retort" eval run --ranks "$1" --threads 1 --device "$device" --weights "$2" \
        --split "$3" --json
    cat "$work/output"
}
for weights in raw ema; do
    for split in val train; do
        one=$(evaluate 1 $weights $split)
        [ "$one" = "$(evaluate 2 $weights $split)" ] || fail "2 ranks count otherwise"
        [ "$one" = "$(evaluate 3 $weights $split)" ] || fail "3 ranks count otherwise"
    done
done
evaluate 2 raw val | grep -q '"count":300,' || fail "not every picture was counted once"
evaluate 2 raw train | grep -q '"count":160,' || fail "not every picture was counted once"

loss() {
    sed 's/.*"loss":\([0-9.e-]*\).*/\1/'
}
raw=$(evaluate 2 raw val | loss)
[ "$raw" != "$(evaluate 2 ema val | loss)" ] || fail "the average is the raw weights"
# What the run itself recorded of its last epoch, of both.
recorded() { # KEY LOSS
    grep -A4 "\"$1\": {" run/summary.json | grep -q "\"loss\": $2" ||
        fail "the run recorded another loss of the $1 than $2"
}
recorded teacher "$raw"
recorded teacher_ema "$(evaluate 2 ema val | loss)"

# The logits that are kept: the same file on any number of ranks, other weights another one.
keep() { # OUT RANKS raw|ema
    expect 0 "$retort" eval run --ranks "$2" --threads 1 --device "$device" --weights "$3" \
        --logits "$1"
    expect 0 "$retort" verify "$1"
}
keep one.h5 1 raw
keep three.h5 3 raw
cmp one.h5 three.h5 || fail "3 ranks keep other logits"
keep ema.h5 2 ema
if cmp -s one.h5 ema.h5; then fail "the average has the same logits"; fi
expect 0 "$retort" inspect one.h5
grep -q '/logits .*\[300,4\]' "$work/output" || fail "not every picture has its logits"
expect 5 "$retort" eval run --ranks 2 --threads 1 --device "$device" --logits nowhere/one.h5
one_error nowhere/one.h5

# A checkpoint alone, with the data set named; and another data set gives another loss.
expect 0 "$retort" eval run/teacher/last.h5 --data "$RETORT_DATA/shapes.h5" --ranks 1 --threads 1 \
    --device "$device" --json
[ "$raw" = "$(loss <"$work/output")" ] || fail "the checkpoint alone has another loss"
expect 0 "$retort" eval run/teacher/last.h5 --data "$RETORT_DATA/other.h5" --ranks 1 --threads 1 \
    --device "$device" --json
[ "$raw" != "$(loss <"$work/output")" ] || fail "another data set has the same loss"

# No average is kept: said, not made up.
expect 0 run plain 1 --stages teacher --set teacher.ema.enabled=false --set teacher.epochs=1
expect 3 "$retort" eval plain --ranks 2 --threads 1 --device "$device" --weights ema
one_error "no EMA weights"
expect 3 "$retort" eval run --stage student --ranks 1
one_error "student"
