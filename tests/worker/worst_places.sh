#!/bin/bash
# Ended in the middle of a write, between a rename and the removal of what it replaces, during the
# exchange of samples: at each of the places where most is under way, a run goes on to the same bits.
. "$(dirname "$0")/common.sh"
recipe
expect 0 run whole 2

every_step='--set run.checkpoint_every_s=0.0001 --set run.log_every_s=0.0001'
# What is there under its own name is whole, whenever a run ends.
all_whole() {
    for file in parts/*/*.h5 parts/logits.h5; do
        [ ! -e "$file" ] || "$retort" verify "$file" >"$work/output" 2>&1 ||
            fail "after $place: $(cat "$work/output")"
    done
}
# died RANKS CALL GLOB COUNT WHEN: the whole run, or in every other call one rank, is killed there.
turn=0
died() {
    ranks=$1
    shift
    place="$*"
    turn=$((turn + 1))
    who=all code=137
    [ $((turn % 2)) = 1 ] || who=one code=4
    as="env LD_PRELOAD=$RETORT_HELPERS/die_at.so"
    export RETORT_DIE_AT="$place $who"
    # shellcheck disable=SC2086 # several words
    expect $code run parts "$ranks" $every_step
    as=''
    unset RETORT_DIE_AT
    all_whole
}

died 2 rename '*/recipe.yaml' 1 before # the launcher's
died 2 rename '*/teacher/plan.txt' 1 before
died 2 write '*/teacher/ckpt-*.partial' 1 half # the very first checkpoint
died 2 rename '*/metrics.jsonl' 1 before # which forgets the step that came to no checkpoint
died 4 write '*/teacher/ckpt-*.partial' 9 half
died 2 fsync '*/teacher/ckpt-*.partial' 2 before
died 1 rename '*/teacher/ckpt-*.h5' 2 before
died 2 rename '*/teacher/ckpt-*.h5' 2 after
died 4 unlink '*/teacher/ckpt-*.h5' 1 before
died 2 unlink '*/teacher/ckpt-*.h5' 1 after
died 1 link '*/teacher/last.h5.*.partial' 1 after
died 2 rename '*/teacher/last.h5' 1 before
died 4 rename '*/teacher/best.h5' 1 before
died 2 send reals 9 before # the sum of gradients
died 1 rename '*/summary.json' 2 before

died 2 write '*/logits.h5.view0.*.partial' 5 half
died 2 rename '*/logits.h5.view0' 1 before
died 1 rename '*/logits.h5.view0' 1 after
died 4 write '*/logits.h5.view1.*.partial' 3 half
died 2 write '*/logits.h5.[0-9]*.partial' 5 half # both views are there, the file of both is not
died 2 rename '*/logits.h5' 1 before
died 1 rename '*/logits.h5' 1 after
died 2 unlink '*/logits.h5.view0' 1 after

died 2 send bytes 1 before # samples of the next epoch
died 4 send bytes 2 after
died 2 fsync '*/baseline/ckpt-*.partial' 2 after
died 2 send bytes 2 before
died 1 write '*/student/ckpt-*.partial' 4 half
died 4 rename '*/student/ckpt-*.h5' 5 after
died 2 unlink '*/student/ckpt-*.h5' 3 before
died 2 rename '*/student/best.h5' 1 after

expect 0 run parts 2
same_bits whole parts
metrics_are_whole parts
nothing_half_written parts
[ -z "$(find parts -name '*.view*')" ] || fail "views are left: $(ls parts)"
