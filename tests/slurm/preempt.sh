#!/bin/bash
# A job of a partition with higher priority pushes ours out: it is warned, checkpoints, waits, and goes on to the
# same bits.
. "$(dirname "$0")/lib.bash"
cluster_start 2 4
slurm_recipe
expect 0 run whole 2 --set run.microbatches=4

submitted --out parts --nodes 2 --ranks-per-node 2 --partition main
paused 1 parts teacher 5
urgent=$(sbatch --parsable --partition=urgent --nodes=2 --exclusive --output=urgent.log \
    --wrap 'test ! -e parts/owner.json && echo "the folder is free"; sleep 1')
wait_until 30 told 1 parts
in_state "$urgent" PENDING || fail "the urgent job did not wait for the checkpoint"
resumed 1 parts
job_ends "$urgent" COMPLETED
says urgent.log "the folder is free"
came_back "$job" 1
job_ends "$job" COMPLETED 120
says "parts/slurm-$job.log" "teacher goes on from step ($step|$((step + 1))|$((step + 2))) "
same_bits whole parts teacher student
passed all
