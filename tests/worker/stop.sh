#!/bin/sh
# Asked to stop by a signal or by `retort stop`, a run leaves a checkpoint and code 75, and goes on
# to the same bits.
. "$(dirname "$0")/common.sh"
recipe
never='--set run.checkpoint_every_s=1000'
expect 0 run whole 2

reached() { # PHASE STEP
    "$RETORT_HELPERS/kill_at" -n parts "$@" || fail "never came to $*"
}
stopped() { # STAGE STEP: code 75, and a checkpoint at that step or later
    ended 75
    ! grep -q 'error: ' "$work/output" || fail "a stop is no error: $(cat "$work/output")"
    at=$(find "parts/$1" -name 'ckpt-*.h5' | sort | tail -1 | sed 's/.*ckpt-0*\([0-9]*\).h5/\1/')
    [ "${at:-0}" -ge "$2" ] || fail "the newest checkpoint of the $1 is of step ${at:-none}"
}
start parts 2 $never
reached teacher 3
kill -USR1 "$launcher"
stopped teacher 3

start parts 2 $never
reached teacher 11
kill -INT "$launcher"
stopped teacher 11

# What it is at is said while the logits are made, though they leave no line of metrics.jsonl.
start parts 2 $never
"$RETORT_HELPERS/kill_at" -s 19 parts "logits view 2" -1 || fail "never came to view 2"
"$retort" status parts >status.output || fail "retort status"
grep -Eq '^  logits +view 2 of 2, images/s [1-9]' status.output &&
    ! grep -Eq '^  (teacher|accuracy) ' status.output ||
    fail "in the logit pass it says: $(cat status.output)"
kill -TERM "$launcher"
for state in parts/ranks/*.state; do
    kill -CONT "$(sed -n 's/^pid *\([0-9]*\).*/\1/p' "$state")"
done
ended 75

start parts 2 $never
reached baseline 2
"$retort" stop parts >stop.output || fail "retort stop"
grep -q "asked parts" stop.output || fail "retort stop said: $(cat stop.output)"
stopped baseline 2

start parts 2 $never
reached student 2
"$retort" stop parts >stop.output || fail "retort stop"
stopped student 2

expect 0 run parts 2 $never
same_bits whole parts
metrics_are_whole parts
expect 0 "$retort" stop parts
grep -q "not running" "$work/output" || fail "retort stop of a run that is not there"
