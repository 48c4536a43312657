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

start parts 2 $never
reached "logits view 1" -1
kill -TERM "$launcher"
ended 75

start parts 2 $never
reached baseline 2
"$retort" stop parts >stop.output || fail "retort stop"
grep -q "asked parts" stop.output || fail "retort stop said: $(cat stop.output)"
stopped baseline 2

start parts 2 $never
reached student 13
"$retort" stop parts >stop.output || fail "retort stop"
stopped student 13

expect 0 run parts 2 $never
same_bits whole parts
metrics_are_whole parts
expect 0 "$retort" stop parts
grep -q "not running" "$work/output" || fail "retort stop of a run that is not there"
