#!/bin/bash
# Signals to the launcher: a checkpoint first, an end at once when asked twice, no rank left.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"
export FAKE_PIDS=$work/pids
mkdir pids

both_ready() {
    [ -e ready.0 ] && [ -e ready.1 ]
}
ranks_gone() {
    ! kill -0 "$(cat pids/0)" 2>/dev/null && ! kill -0 "$(cat pids/1)" 2>/dev/null
}
start() { # BEHAVIOUR: the launcher in the background, and its ranks listening
    rm -f ready.* pids/*
    # A script's background jobs ignore INT otherwise.
    FAKE=$1 env --default-signal=INT "$retort" run recipe.yaml --ranks 2 --threads 1 \
        >out 2>err </dev/null &
    launcher=$!
    wait_until 20 both_ready
}
ends_with() { # CODE
    local got=0
    wait "$launcher" || got=$?
    [ "$got" -eq "$1" ] || fail "the launcher ended with $got, not $1"
}

# A first INT, TERM or USR1, or `retort stop`, is a checkpoint and code 75.
for signal in INT TERM USR1 HUP; do
    start stoppable
    kill -"$signal" "$launcher"
    ends_with 75
    ranks_gone || fail "a rank lives after $signal"
    says out 'stopped after a checkpoint'
    quiet_about err .
done
start stoppable
expect 6 "$retort" run recipe.yaml --ranks 2 --threads 1
"$retort" stop runs/recipe >stop.out || fail "stop"
says stop.out "asked runs/recipe .*pid $launcher"
ends_with 75
[ ! -e runs/recipe/owner.json ] || fail "the owner is still there"

# nohup's HUP stays ignored.
rm -f ready.*
FAKE=stoppable nohup "$retort" run recipe.yaml --ranks 2 --threads 1 >out 2>err </dev/null &
launcher=$!
wait_until 20 both_ready
kill -HUP "$launcher"
sleep 0.3
kill -0 "$launcher" || fail "HUP ended a run under nohup"
kill -TERM "$launcher"
ends_with 75

# Ranks that do not listen: the second signal ends all at once.
start deaf
kill -INT "$launcher"
wait_until 5 grep -q stopping out
kill -0 "$(cat pids/0)" || fail "the first INT ended a rank"
kill -INT "$launcher"
ends_with 130
ranks_gone || fail "a deaf rank lives"
says err 'ended at once by signal 2'

# Nothing outlives a launcher that is killed: its ranks get TERM from mpirun, and KILL soon after.
start deaf
kill -KILL "$launcher"
ends_with 137
wait_until 15 ranks_gone
# The folder is free again although owner.json is still there.
[ -e runs/recipe/owner.json ] || fail "who removed owner.json?"
FAKE=summary expect 0 "$retort" run recipe.yaml --ranks 2 --threads 1
