#!/bin/bash
# Warned of its end, a job checkpoints, goes back into the queue and ends with the bits of a run that nobody
# disturbed: on both nodes again, on the one that is left, and on both when the other is back.
. "$(dirname "$0")/lib.bash"
cluster_start 2 4
slurm_recipe
expect 0 run whole 2 --set run.microbatches=4

# A rank stands still while the warning comes, so that it is the ranks' to agree on a step.
submitted --out both --nodes 2 --ranks-per-node 2 --launcher srun --time 5 --warn 60
paused 1 both teacher 3
scancel --batch --signal=USR1 "$job"
wait_until 30 told 1 both
resumed 1 both
came_back "$job" 1
job_ends "$job" COMPLETED 120
says "both/slurm-$job.log" "job $job, start 1, on node\[1-2\]"
says "both/slurm-$job.log" "job $job: retort ended with code 75"
says "both/slurm-$job.log" "job $job, start 2, on node\[1-2\]"
says both/metrics.jsonl '"event":"requeue".*"slurm_restart_count":1'
same_bits whole both teacher student
sed -i '/"event":"requeue"/d' both/metrics.jsonl # the one line that is of no stage
metrics_are_whole both
passed "USR1, checkpoint, requeue, the same bits"

# Both nodes are drained while it stops, so that it waits: the states of ranks that are gone would be taken for the next.
submitted --out moved --nodes 1-2 --ranks-per-node 2 --launcher mpirun
paused 1 moved student 2
scontrol update nodename=node[1-2] state=drain reason=test
scancel --batch --signal=USR1 "$job"
wait_until 30 told 1 moved
resumed 1 moved
wait_until 60 eval '[ "$(restarts $job)" = 1 ]'
wait_until 60 in_state "$job" PENDING
rm moved/ranks/*.state
scontrol update nodename=node1 state=resume
paused 1 moved student $((step + 4))
scontrol update nodename=node2 state=resume
scancel --batch --signal=USR1 "$job"
wait_until 30 told 1 moved
resumed 1 moved
came_back "$job" 2
job_ends "$job" COMPLETED 120
says "moved/slurm-$job.log" "start 1, on node\[1-2\]"
says "moved/slurm-$job.log" "start 2, on node1$"
says "moved/slurm-$job.log" "start 3, on node\[1-2\]"
says "moved/slurm-$job.log" "starting in moved with 4 ranks"
says "moved/slurm-$job.log" "going on in moved with 2 ranks"
says "moved/slurm-$job.log" "going on in moved with 4 ranks"
says "moved/slurm-$job.log" "student goes on from step ($step|$((step + 1))|$((step + 2))) "
says moved/job.sbatch '^options=.*run.microbatches=4'
same_bits whole moved teacher student
passed "requeued onto one node, and onto both again"

# Cancelled, it does not come back; what was kept serves the next job. A checkpoint that was being written then may
# still be finished, or not.
newest() {
    find again/teacher -name 'ckpt-*.h5' | grep -o '[0-9]*\.h5$' | sort | tail -1 | sed 's/^0*//; s/\.h5$//'
}
submitted --out again --nodes 1 --ranks-per-node 2 --set run.microbatches=4
wait_until 60 eval '[ -n "$(newest 2>/dev/null)" ]'
paused 1 again teacher 6
kept=$(newest)
scancel "$job"
job_ends "$job" CANCELLED
wait_until 20 job_gone "$job"
wait_until 20 test ! -e again/owner.json # its launcher was signalled, too, and leaves when its ranks have
left=$(newest)
[ "${left:-0}" -ge "$kept" ] || fail "a cancelled job lost its checkpoint of step $kept"
submitted --out again --nodes 1 --ranks-per-node 2 --set run.microbatches=4
job_ends "$job" COMPLETED 120
says "again/slurm-$job.log" "teacher goes on from step $left "
same_bits whole again teacher student
passed "cancelled, and submitted again"

# Asked by `retort stop`, it leaves with code 75 and stays away.
submitted --out stopped --nodes 1 --ranks-per-node 2
paused 1 stopped teacher 3
retort stop stopped >stop.output || fail "retort stop"
resumed 1 stopped
job_ends "$job" FAILED
says "stopped/slurm-$job.log" "ended with code 75"
[ "$(restarts "$job")" = 0 ] || fail "a stopped job came back"
passed all
