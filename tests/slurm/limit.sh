#!/bin/bash
# Near its time limit a job is warned by Slurm itself: it checkpoints, goes back into the queue and ends with the bits
# of a run that nobody disturbed. While Slurm takes its time, jobs whose ranks die: they come back while they gain by it.
. "$(dirname "$0")/lib.bash"
cluster_start 1 4
slurm_recipe
expect 0 run whole 2 --set run.microbatches=4

# Slurm looks at limits every 30 s, and warns up to so much too early. The limit comes down only when a rank stands
# still, two minutes at least ahead, so that it does not matter how long that took.
submitted --out limited --set run.microbatches=4 --time 60 --warn 160
limited=$job
paused 1 limited teacher 5
at=$step
started=$(date -d "$(scontrol -o show job "$limited" | sed -n 's/.* StartTime=\([^ ]*\).*/\1/p')" +%s)
scontrol update jobid="$limited" timelimit=$((($(date +%s) - started) / 60 + 3)) || fail "the limit stays"
passed "a job that nears its limit"

# A rank dies behind a checkpoint: once more, from there.
submitted --out died --ranks-per-node 2 --set run.microbatches=4
wait_until 60 test -e died/ranks/0.state
host_enter 1 "$RETORT_HELPERS/kill_at" -w rank "$work/died" teacher 6 >kill.output || fail "nothing to kill in died"
came_back "$job" 1
job_ends "$job" COMPLETED 120
says "died/slurm-$job.log" "job $job: retort ended with code 4"
says "died/slurm-$job.log" "teacher goes on from step [1-9]"
same_bits whole died teacher student
passed "a rank died"

# It dies at the same place each time, ahead of the first checkpoint: no third start.
submitted --out dying --ranks-per-node 2 -- \
    --export=ALL,LD_PRELOAD="$RETORT_HELPERS/die_at.so",RETORT_DIE_AT="send reals 2 before one"
job_ends "$job" FAILED 120
[ "$(restarts "$job")" = 1 ] || fail "$(restarts "$job") restarts of a job that gains nothing"
scontrol -o show job "$job" | grep -q 'ExitCode=4:0' || fail "the job hides the code"
passed "a rank dies at each start"

wait_until 60 told 1 limited
scontrol update jobid="$limited" timelimit=60 || fail "the limit stays" # of the next start
resumed 1 limited
came_back "$limited" 1
job_ends "$limited" COMPLETED 120
says "limited/slurm-$limited.log" "job $limited: retort ended with code 75"
says "limited/slurm-$limited.log" "teacher goes on from step ($at|$((at + 1))|$((at + 2))) "
[ "$(restarts "$limited")" = 1 ] || fail "$(restarts "$limited") restarts"
same_bits whole limited teacher student
passed all
