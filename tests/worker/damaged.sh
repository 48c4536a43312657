#!/bin/sh
# A damaged checkpoint is named and the one before it used; damaged logits are computed again.
. "$(dirname "$0")/common.sh"
recipe
sed -i 's/shapes.h5/tiny.h5/' recipe.yaml # fewer pictures to evaluate
export LD_PRELOAD="$RETORT_HELPERS/die_at.so" # which flushes nothing: kills lose nothing by it
expect 0 run whole 2

flip() { # FILE: one bit in its middle
    at=$(($(wc -c <"$1") / 2))
    byte=$(od -An -tu1 -j "$at" -N1 "$1" | tr -d ' ')
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
newest() { # FOLDER STAGE
    find "$1/$2" -name 'ckpt-*.h5' | sort | tail -1
}
# warned WORD…: exactly one warning, with the words in it.
warned() {
    [ "$(grep -c 'warning: ' "$work/output")" = 1 ] || {
        cat "$work/output"
        fail "not one warning"
    }
    for word; do
        grep 'warning: ' "$work/output" | grep -qF -- "$word" || fail "no $word in the warning"
    done
}

every_step='--set run.checkpoint_every_s=0.0001'
damaged() { # FOLDER STAGE STEP DAMAGE…: killed there, then its newest checkpoint damaged
    folder=$1 stage=$2 step=$3
    shift 3
    start "$folder" 2 $every_step
    "$RETORT_HELPERS/kill_at" "$folder" "$stage" "$step" || fail "never came to $stage $step"
    ended 4
    file=$(newest "$folder" "$stage")
    "$@" "$file"
}
damaged flipped teacher 5 flip
expect 0 run flipped 2
warned "$file"
same_bits whole flipped

damaged cut student 5 truncate -s 3000
expect 0 run cut 2
warned "$file"
same_bits whole cut

# Every checkpoint of the stage: from its start.
start all 2 $every_step
"$RETORT_HELPERS/kill_at" all teacher 3 || fail "never came to teacher 3"
ended 4
for file in all/teacher/ckpt-*.h5; do
    truncate -s 1000 "$file"
done
expect 0 run all 2
same_bits whole all

# Logits damaged before the student began: computed again.
expect 0 run logits 2 --stages teacher,logits
flip logits/logits.h5
expect 0 run logits 2
warned logits/logits.h5
same_bits whole logits

# Another teacher after the student made a step: refused, and nothing is lost by it.
expect 0 run other 2 --stages teacher,logits --set run.seed=2
start misfit 2 $every_step
"$RETORT_HELPERS/kill_at" misfit student 5 || fail "never came to student 5"
ended 4
mv misfit/teacher/last.h5 kept.h5
cp other/teacher/last.h5 misfit/teacher/last.h5
before=$(cksum misfit/logits.h5)
expect 3 run misfit 2
one_error misfit "another teacher"
[ "$before" = "$(cksum misfit/logits.h5)" ] || fail "the logits the student began with are gone"
mv kept.h5 misfit/teacher/last.h5
expect 0 run misfit 2
same_bits whole misfit
