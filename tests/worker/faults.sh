#!/bin/bash
# One rank fails, in every way and in every phase: the job ends within 10 s (a rank that hangs: once
# the watchdog has waited its 5 s), with the right code, one line that names the rank and what it
# did, and no process left; and the run goes on to the same bits.
. "$(dirname "$0")/common.sh"
recipe
# Few pictures to evaluate, few steps: what is looked at is how each of many starts ends.
sed -i 's/shapes.h5/tiny.h5/; s/epochs: [23]/epochs: 1/; s/batch: 18/batch: 40/; s/ baseline,//' \
    recipe.yaml
export LD_PRELOAD="$RETORT_HELPERS/die_at.so" # which flushes nothing: failures lose nothing by it
expect 0 run whole 2

every_step='--set run.checkpoint_every_s=0.0001 --set run.log_every_s=0.0001'
watchdog_s=5
host=$(hostname)

milliseconds() {
    echo $(($(date +%s%N) / 1000000))
}
# No rank of the last start lives.
nobody_left() {
    for state in parts/ranks/*.state; do
        pid=$(sed -n 's/^pid *\([0-9]*\).*/\1/p' "$state")
        [ -n "$pid" ] || fail "$state names no pid"
        ! grep -Eqs '^State:[[:space:]]+[^ZX[:space:]]' "/proc/$pid/status" ||
            fail "$place: process $pid of $state is left behind"
    done
}
# fails CODE RANK PHASE STEP HOW WORD…: rank RANK fails there in that way (see fail_at.c), and the
# run's one line of an error has all the words.
fails() {
    code=$1 place="rank $2 at $3 step $4: $5"
    export RETORT_FAIL_AT="$2 $3 $4 $5" RETORT_FAIL_NOTE="$work/note"
    how=$5
    shift 5
    rm -f note
    as="env LD_PRELOAD=$LD_PRELOAD:$RETORT_HELPERS/fail_at.so"
    # shellcheck disable=SC2086 # several words
    expect "$code" run parts 2 $every_step --set run.watchdog_s=$watchdog_s
    now=$(milliseconds)
    as=''
    unset RETORT_FAIL_AT RETORT_FAIL_NOTE
    [ -e note ] || fail "$place: nothing happened"
    took=$((now - $(($(date -r note +%s%N) / 1000000))))
    limit=10000 # behind the watchdog's own time
    [ "$how" != stop ] || limit=$((limit + 1000 * watchdog_s))
    [ $took -le $limit ] || fail "$place: it took $took ms"
    [ "$how" != stop ] || grep -q 'has waited [5-9] s; not arrived' "$work/output" ||
        fail "$place: the watchdog did not wait $watchdog_s s"
    echo "$place ($took ms)"
    one_error "$@"
    nobody_left
    nothing_half_written parts
}

# As ranks start, which takes the longest of all: while they read their data.
fails 4 1 reading_data -1 kill "rank 1 on $host was ended by signal 9" "last seen: reading data"
fails 4 0 reading_data -1 stop "not arrived: rank 0 on $host" "last seen in reading data"
fails 7 1 reading_data -1 memory "[rank 1/2 $host]" "no memory"
fails 3 1 reading_data -1 read "[rank 1/2 $host]" "$RETORT_DATA/tiny.h5"

fails 4 0 exchange -1 kill "rank 0 on $host was ended by signal 9" "last seen: exchange"
fails 4 1 exchange -1 stop "not arrived: rank 1 on $host" "last seen in exchange"
fails 7 1 exchange -1 memory "[rank 1/2 $host]" "no memory"

fails 4 1 teacher 0 kill "rank 1 on $host was ended by signal 9" "last seen: teacher step"
fails 4 1 teacher 0 stop "not arrived: rank 1 on $host" "last seen in teacher step"
fails 8 1 teacher 0 nan "[rank " "not finite" teacher
fails 5 0 teacher 0 disk "[rank 0/2 $host]" "No space left on device" parts/
fails 7 0 checkpoint 0 memory "[rank 0/2 $host]" "no memory"

fails 4 0 checkpoint 1 kill "rank 0 on $host was ended by signal 9" "last seen: checkpoint step"
fails 4 1 checkpoint 1 stop "not arrived: rank 1 on $host" "last seen in checkpoint step"
fails 5 0 checkpoint 1 disk "[rank 0/2 $host]" "No space left on device" parts/

fails 4 1 evaluation -1 kill "rank 1 on $host was ended by signal 9" "last seen: evaluation"
fails 4 0 evaluation -1 stop "not arrived: rank 0 on $host" "last seen in evaluation"
fails 8 0 evaluation -1 nan "[rank 0/2 $host]" "not finite" teacher
fails 5 0 evaluation -1 disk "[rank 0/2 $host]" "No space left on device" parts/metrics.jsonl

fails 3 1 teacher -1 read "[rank 1/2 $host]" parts/teacher/
fails 4 1 logits_view -1 kill "rank 1 on $host was ended by signal 9" "last seen: logits view"
fails 4 1 logits_view -1 stop "not arrived: rank 1 on $host" "last seen in logits view"
fails 8 1 logits_view -1 nan "[rank 0/2 $host]" "do not fit f16"
fails 5 0 logits_view -1 disk "[rank 0/2 $host]" disk parts/logits.h5

fails 4 0 student 1 kill "rank 0 on $host was ended by signal 9" "last seen: student step"
fails 3 1 student -1 read "[rank 1/2 $host]" parts/student/ckpt-
fails 7 1 student -1 memory "[rank 1/2 $host]" "no memory"
fails 4 0 student 0 stop "not arrived: rank 0 on $host" "last seen in student step"
fails 8 1 student 0 nan "[rank " "not finite"
fails 5 0 student 0 disk "[rank 0/2 $host]" "No space left on device" parts/

expect 0 run parts 2
same_bits whole parts "teacher student"
metrics_are_whole parts
