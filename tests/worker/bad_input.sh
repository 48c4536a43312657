#!/bin/sh
# Bad input is refused with its name: the right code, one line, nothing half-written.
. "$(dirname "$0")/common.sh"
recipe

refused() { # CODE RANKS WORD… -- option…: a first start in a new folder
    code=$1 ranks=$2 words=''
    shift 2
    while [ "$1" != -- ]; do
        words="$words $1"
        shift
    done
    shift
    rm -rf bad
    expect "$code" run bad "$ranks" "$@"
    one_error $words
    [ ! -e bad ] || nothing_half_written bad
    [ ! -e bad/recipe.yaml ] || fail "a refused start left a recipe: $*"
}

# Data sets.
refused 3 2 "$work/nowhere.h5" -- --set "data.path=$work/nowhere.h5"
seq 1000 >text.h5
refused 3 2 "$work/text.h5" -- --set "data.path=$work/text.h5"
head -c 100000 "$RETORT_DATA/shapes.h5" >cut.h5
refused 3 2 "$work/cut.h5" -- --set "data.path=$work/cut.h5"
cp "$RETORT_DATA/shapes.h5" flipped.h5
printf 'x' | dd of=flipped.h5 bs=1 seek=600 conv=notrunc status=none
refused 3 2 "$work/flipped.h5" -- --set "data.path=$work/flipped.h5"
cp "$RETORT_DATA/shapes.h5" sample.h5 # nearly all of it is pictures
printf 'x' | dd of=sample.h5 bs=1 seek=$(($(stat -c %s sample.h5) / 2)) conv=notrunc status=none
refused 3 2 "$work/sample.h5" -- --set "data.path=$work/sample.h5"

# Recipes: a misspelt key, another type, a value out of range, each with its line.
recipe_refused() { # WORD… with a wrong recipe.yaml in place
    expect 2 run bad 2
    one_error "$@"
    [ ! -e bad ] || fail "a wrong recipe made a folder"
}
rm -rf bad
sed 's/^  batch: 18/  bacth: 18/' recipe.yaml >wrong.yaml && mv wrong.yaml recipe.yaml
recipe_refused recipe.yaml:5 teacher.bacth "did you mean teacher.batch"
recipe
sed '5s/18/eighteen/' recipe.yaml >wrong.yaml && mv wrong.yaml recipe.yaml
recipe_refused recipe.yaml:5 teacher.batch eighteen
recipe
sed '5s/18/-18/' recipe.yaml >wrong.yaml && mv wrong.yaml recipe.yaml
recipe_refused recipe.yaml:5 teacher.batch
recipe
refused 2 2 conv13 -- --set teacher.arch=conv13
refused 2 2 run.precision -- --set run.precision=f64 --device cpu

# Ranks and batches.
refused 2 4 teacher.batch -- --set teacher.batch=3
refused 2 5 run.microbatches -- --stages teacher
expect 0 run odd 2 --stages teacher --set teacher.batch=13 --set teacher.epochs=1 \
    --set run.microbatches=2
# Five micro-batches of a last batch of four: one of them is empty.
expect 0 run empty 2 --stages teacher --set teacher.batch=12 --set teacher.epochs=1 \
    --set run.microbatches=5

# A stage without what it needs.
refused 3 2 teacher -- --stages logits

# Another recipe for a folder that holds a run.
expect 2 run odd 2 --stages teacher --set teacher.batch=14 --set teacher.epochs=1 \
    --set run.microbatches=2
one_error odd --fresh
grep -q '^teacher.batch: 13 in the folder, 14 asked for' "$work/output" ||
    fail "the difference is not shown"

# Logits of another data set, and of another teacher, named: refused; fitting ones: used.
run_all() { # FOLDER option…
    folder=$1
    shift
    expect 0 run "$folder" 2 --set teacher.epochs=1 --set student.epochs=2 "$@"
}
run_all one --stages teacher,logits,student
run_all two --stages teacher,logits --set "data.path=$RETORT_DATA/other.h5"
run_all three --stages teacher,logits --set run.seed=2
for other in two three; do
    rm -rf named
    expect 3 run named 2 --stages student --set student.epochs=2 \
        --set "teacher.from=$work/one/teacher/last.h5" --set "logits.path=$work/$other/logits.h5"
    one_error "$work/$other/logits.h5"
    [ ! -e named/student/last.h5 ] || fail "a student was made of misfit logits"
done
rm -rf named
expect 0 run named 2 --stages student --set student.epochs=2 \
    --set "teacher.from=$work/one/teacher/last.h5" --set "logits.path=$work/one/logits.h5"
same_bits one named student
# Another seed: other weights and batches, but the views of the file.
expect 0 run seeded 2 --stages student --set student.epochs=2 --set run.seed=5 \
    --set logits.views=1 --set "teacher.from=$work/one/teacher/last.h5" \
    --set "logits.path=$work/one/logits.h5"
[ "$(bits one student)" != "$(bits seeded student)" ] || fail "the seed changes nothing"
head -c 2000 one/logits.h5 >cut-logits.h5
rm -rf named
expect 3 run named 2 --stages student --set student.epochs=2 \
    --set "teacher.from=$work/one/teacher/last.h5" --set "logits.path=$work/cut-logits.h5"
one_error "$work/cut-logits.h5"

# A loss that is not finite: the learning rate leaps after the first epoch.
set -- --stages teacher --set teacher.schedule.kind=step --set teacher.schedule.step_epochs=1 \
    --set teacher.schedule.step_factor=1e30 --set teacher.schedule.warmup_epochs=0 \
    --set run.checkpoint_every_s=1000
expect 8 run leap 2 "$@"
one_error "step 1" "of the teacher" teacher.optimizer.lr
"$RETORT_HELPERS/weights" leap/teacher/ckpt-000000009.h5 >before
expect 8 run leap 2 "$@"
one_error "not finite"
"$RETORT_HELPERS/weights" leap/teacher/ckpt-000000009.h5 | diff before - ||
    fail "the checkpoint before the leap has changed"
nothing_half_written leap
