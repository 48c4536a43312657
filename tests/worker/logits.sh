#!/bin/sh
# Logits that name the right teacher, data set and seed, and are not its logits of these pixels:
# found at the student's start, which recomputes at least 256 rows over all views and shards.
. "$(dirname "$0")/common.sh"
recipe
sed -i 's/shapes.h5/tiny.h5/; s/epochs: [23]/epochs: 1/; s/batch: 18/batch: 40/; s/ baseline,//' \
    recipe.yaml
export LD_PRELOAD="$RETORT_HELPERS/die_at.so" # which flushes nothing
expect 0 run made 2 --stages teacher,logits

student() { # CODE LOGITS RANKS
    rm -rf named
    expect "$1" run named "$3" --stages student --set "teacher.from=$work/made/teacher/last.h5" \
        --set "logits.path=$2"
}
forged() { # HOW BLOCK WORD…: whoever finds it, one rank says it
    "$RETORT_HELPERS/forge_logits" made/logits.h5 forged.h5 "$1" "$2" || fail "cannot forge $1"
    "$retort" verify forged.h5 >"$work/output" || fail "the forged file is not whole"
    shift 2
    for ranks in 1 2; do
        student 3 "$work/forged.h5" $ranks
        one_error "the stored logits of view 1, sample " forged.h5 "$@"
        [ ! -e named/student ] || [ -z "$(find named/student -name '*.h5')" ] ||
            fail "a student was made of forged logits"
    done
}
# One rank's rows, then some of each rank's.
forged digest 1 "sample 1" "belong to other pixels"
forged 1.03 1 "sample 1" "of the row's largest"
forged -1 1 "sample 1" "of the row's largest"
forged digest 0 "belong to other pixels"
forged -1 0 "of the row's largest"
# Within 2 % they are the teacher's, by other arithmetic; and as they were they are taken.
"$RETORT_HELPERS/forge_logits" made/logits.h5 close.h5 1.01 0
student 0 "$work/close.h5" 2
student 0 "$work/made/logits.h5" 2
