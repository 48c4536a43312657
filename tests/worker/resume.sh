#!/bin/sh
# Killed at any moment of any stage, a run goes on and ends with the bits of one that was not.
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
recipe
expect 0 run whole 2

# Three kills a stage, each at another kind of moment (worst_places.sh has those that are too short
# to be met by looking).
killed parts 2 teacher 3
killed parts 2 teacher 8 evaluation -1
killed parts 2 teacher 9 checkpoint -1
killed parts 2 "logits view 1" -1
killed parts 2 "logits view 1" 0
killed parts 2 "logits view 2" -1
killed parts 2 baseline 0
killed parts 2 baseline 10
killed parts 2 baseline 20 checkpoint -1
killed parts 2 student 4
killed parts 2 student 8
killed parts 2 student 22
expect 0 run parts 2
! grep -q 'engine plan' "$work/output" || fail "it goes on by another plan: $(cat "$work/output")"
same_bits whole parts
nothing_half_written parts
metrics_are_whole parts
python3 "$here/event_files.py" parts 2 || fail "TensorBoard is shown something else"
for expected in "teacher 2" "baseline 3" "student 3"; do
    stage=${expected% *}
    [ "$(lines_of parts | grep -c "^epoch $stage ")" = "${expected#* }" ] ||
        fail "metrics.jsonl lacks epochs of the $stage"
done
for key in teacher teacher_ema baseline baseline_ema student student_ema ranks device processor \
    precision images_per_s seconds; do
    grep -q "^  \"$key\": " parts/summary.json || fail "summary.json has no $key"
done

# Every start on another number of ranks.
killed moved 2 teacher 5
killed moved 4 teacher 9
killed moved 1 "logits view 2" -1
killed moved 4 baseline 7
killed moved 1 student 6
# The curves for TensorBoard are a convenience: where none can be written, the run goes on.
rm -r moved/tensorboard
: >moved/tensorboard
expect 0 run moved 4
[ "$(grep -c 'warning: no curves for TensorBoard from here on: .*/tensorboard/student/' "$work/output")" = 1 ] ||
    fail "not one warning: $(cat "$work/output")"
same_bits whole moved

# Nothing is left to do.
before=$(cat parts/metrics.jsonl)
expect 0 run parts 2
same_bits whole parts
[ "$before" = "$(cat parts/metrics.jsonl)" ] || fail "a finished run changed its metrics"

# A plan that is not the checkpoint's is said in one line, one that cannot be followed is refused.
killed planned 2 teacher 12
plan=planned/teacher/plan.txt
cp $plan kept.txt
if [ "$device" != reference ]; then # which has nothing to choose
    sed 's/fwd=[a-z]*/fwd=none/' kept.txt >$plan
    expect 2 run planned 2 --stages teacher
    one_error 'algorithm "none"'
    printf 'spare fwd=direct;' >>kept.txt
    cp kept.txt $plan
    expect 0 run planned 2 --stages teacher
    [ "$(grep -c 'warning: the teacher goes on by another engine plan' "$work/output")" = 1 ] ||
        fail "the other plan was not said once: $(cat "$work/output")"
fi
