#!/bin/bash
# From `retort submit` to the result: a job, a chain of jobs, one whose teacher fails, an array of three.
. "$(dirname "$0")/lib.bash"
cluster_start 2 4
slurm_recipe
expect 0 run whole 2

submitted --out single --ranks-per-node 2 --time 5 -- --comment=tested
single=$job
submitted --out chain --ranks-per-node 2 --chain
chain=$job
[ "$(grep -c '^job ' "$work/output")" = 3 ] || fail "the chain is not three jobs: $(cat "$work/output")"
scontrol -o show job "$single" | grep -q Comment=tested || fail "sbatch did not get what stands after --"
job_ends "$single" COMPLETED 120
same_bits whole single teacher student
says "single/slurm-$single.log" "^student, EMA"
passed "a job"

job_ends "$chain" COMPLETED 180
same_bits whole chain teacher student
for stage in teacher logits student; do
    id=$(sed -n "s/^job \([0-9]*\): chain, $stage$/\1/p" "$work/output")
    in_state "$id" COMPLETED || fail "the $stage's job is $(job_state "$id")"
done
passed "a chain"

# A file that is whole until the job starts: the teacher fails, and the others are cancelled, not left waiting.
cp "$RETORT_DATA/tiny.h5" cut.h5
submitted --out broken --chain --set data.path=cut.h5 -- --begin=now+5
truncate -s 100000 cut.h5
teacher=$(sed -n 's/^job \([0-9]*\): broken, teacher$/\1/p' "$work/output")
job_ends "$teacher" FAILED
job_ends "$job" CANCELLED
scontrol -o show job "$teacher" | grep -q 'ExitCode=3:0' || fail "the teacher's job hides the code"
passed "a chain whose teacher fails"

# Each of an array trains by itself, in a folder of its own.
submitted --out sweep --array run.seed=1,2,3 --stages teacher --set teacher.epochs=1
for task in 0 1 2; do
    job_ends "${job}_$task" COMPLETED 120
    says "sweep/slurm-${job}_$task.log" "run folder: sweep/run.seed=$((task + 1))$"
    says "sweep/run.seed=$((task + 1))/recipe.yaml" "seed: $((task + 1))"
done
[ "$(bits sweep/run.seed=1 teacher)" != "$(bits sweep/run.seed=2 teacher)" ] || fail "two seeds, the same bits"
passed all
