#!/bin/bash
# retort run --array: a folder for each value, one table, and again to go on.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"
export FAKE=summary
run=("$retort" run recipe.yaml --ranks 2 --threads 1 --stages teacher --set run.stages=[teacher])

expect 0 "${run[@]}" --array run.seed=1,2 --dry-run
[ "$(grep -c '^mpirun ' out)" -eq 2 ] || fail "a command for each value"
[ ! -e runs ] || fail "--dry-run wrote something"
expect 2 "${run[@]}" --array run.sead=1,2
says err 'run\.sead'
expect 3 "$retort" run none.yaml --array run.seed=1,2
[ "$(grep -c none.yaml err)" = 1 ] || fail "said more than once: $(cat err)"

expect 0 "${run[@]}" --array run.seed=1,2,3
for seed in 1 2 3; do
    says runs/recipe/run.seed=$seed/recipe.yaml "seed: $seed$"
    says out "^run.seed=$seed +40\.32 .* 41\.21  done$"
done
says out '^top-1 % +teacher +EMA +baseline +EMA +student +EMA$'

# What is done stays; what is not goes on.
rm runs/recipe/run.seed=2/summary.json
expect 0 "${run[@]}" --array run.seed=1,2,3
says out '^runs/recipe/run\.seed=1 is done$'
says out '^going on in runs/recipe/run\.seed=2 '
[ "$(grep -c '^going on' out)" -eq 1 ] || fail "more than one went on"

# One that fails does not keep the others; the first code is the command's.
FAKE=code FAKE_CODE=8 expect 8 "${run[@]}" --array run.seed=3,4,5
says out '^runs/recipe/run\.seed=3 is done$'
says out '^run.seed=4 .* not done$'
says out '^run.seed=5 .* not done$'
# A stop ends all.
FAKE=silent FAKE_CODE=75 expect 75 "${run[@]}" --array run.seed=6,7
[ ! -e runs/recipe/run.seed=7 ] || fail "a stopped array went on"
