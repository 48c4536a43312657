#!/bin/sh
# With --max-restarts a run goes on by itself when a rank dies, to the same bits; not when the fault
# is the user's, and not when the same step fails again.
. "$(dirname "$0")/common.sh"
recipe
expect 0 run whole 2

restarts() { # FOLDER COUNT
    [ "$(grep -c '"event":"restart"' "$1/metrics.jsonl")" = "$2" ] ||
        fail "not $2 restarts in $1/metrics.jsonl: $(cat "$1/metrics.jsonl")"
}
kill_one() { # FOLDER PHASE STEP
    "$RETORT_HELPERS/kill_at" -w rank "$@" >kill.output || fail "nothing to kill at $*"
}

start parts 2 --max-restarts 2
kill_one parts "logits view 1" -1
kill_one parts student 13
ended 0
same_bits whole parts
nothing_half_written parts
restarts parts 2
for n in 1 2; do
    grep -q "warning: restart $n of at most 2 from the last checkpoint, in $n s; failed at " \
        "$work/output" || fail "restart $n was not announced: $(cat "$work/output")"
done
! grep -q 'error: ' "$work/output" || fail "a restart is no error: $(cat "$work/output")"
grep -q 'restart 1 of at most 2 .*rank 1 on .* was ended by signal 9' parts/log.txt ||
    fail "log.txt does not say why"
grep '"event":"restart"' parts/metrics.jsonl | tail -1 |
    grep -q '"restart":2,"phase":"\(student\|checkpoint\|exchange\|evaluation\)","step":-*[0-9]*,"cause":"rank 1 on .*signal 9' ||
    fail "metrics.jsonl does not say why: $(cat parts/metrics.jsonl)"
grep -v '"event":"restart"' parts/metrics.jsonl >lines
mv lines parts/metrics.jsonl
metrics_are_whole parts

# The same step again: the first cause, and no third try. Its checkpoints are too far apart to help.
as="env LD_PRELOAD=$RETORT_HELPERS/die_at.so"
export RETORT_DIE_AT="send reals 9 before one"
expect 4 run again 2 --max-restarts 5 --stages teacher --set run.checkpoint_every_s=1000
as=''
unset RETORT_DIE_AT
one_error "failed twice at teacher step " "the first time: rank " "was ended by signal 9"
restarts again 1

# More deaths than restarts.
start often 2 --max-restarts 1
kill_one often teacher 3
kill_one often teacher 11
ended 4
one_error "gave up after 1 restart: rank 1 on" "was ended by signal 9" "run again to go on"
restarts often 1

# Asked to stop while it waits for the restart.
start asked 2 --max-restarts 1
kill_one asked teacher 3
for _ in $(seq 100); do
    ! grep -q 'restart 1 of' "$work/output" || break
    sleep 0.05
done
kill -INT "$launcher"
ended 75
[ ! -e asked/owner.json ] || fail "the owner is still there"
SLURM_JOB_ID=77 SLURM_RESTART_COUNT=4 expect 0 run asked 2 --stages teacher
same_bits whole asked teacher
grep -q '"event":"requeue",.*"slurm_restart_count":4,"job":"77"' asked/metrics.jsonl ||
    fail "no requeue in $(cat asked/metrics.jsonl)"

# What a restart cannot mend.
expect 8 run wild 2 --max-restarts 3 --set teacher.optimizer.lr=1e30
one_error "not finite"
expect 3 run missing 2 --max-restarts 3 --set data.path=/nowhere
for folder in wild missing; do
    ! grep -q '"event":"restart"' $folder/metrics.jsonl 2>/dev/null || fail "$folder was restarted"
done

# Taken by another launcher, as after a machine that slept: nothing more is saved, and the other's
# file stays.
start taken 2 --max-restarts 3
"$RETORT_HELPERS/kill_at" -n taken teacher 3 >kill.output || fail "the run never came to step 3"
sed 's/"token": "[0-9a-f]*"/"token": "another"/' taken/owner.json >owner.json
mv owner.json taken/owner.json
ended 6
one_error "taken was taken by another run"
grep -q '"another"' taken/owner.json || fail "the other's owner.json is gone"

# A rank alone in a world that should be larger writes nothing.
expect 2 env RETORT_RANKS=2 "$RETORT_BIN/retort-worker" run whole
one_error "MPI size is not what the launcher asked for: 1 in place of 2"
expect 2 env RETORT_RANKS=2 SLURM_PROCID=1 "$RETORT_BIN/retort-worker" run whole
! grep -q 'error: ' "$work/output" || fail "every task spoke: $(cat "$work/output")"
