#!/bin/bash
# A node is lost in the middle of a run: its power goes, or its cable. Slurm brings the job back on what is left, the
# ranks that nobody can reach any more end by themselves, and the bits are those of a run that nobody disturbed.
. "$(dirname "$0")/lib.bash"
cluster_start 2 4
slurm_recipe
expect 0 run whole 2 --set run.microbatches=4
node_is() { # NODE STATE
    [[ $(sinfo -h -N -p main -n "$1" -o %T) == "$2"* ]]
}
no_ranks() { # NODE
    ! host_enter "$1" pgrep -x retort-worker >/dev/null && ! host_enter "$1" pgrep -x retort >/dev/null
}

# Power: the node of ranks 2 and 3.
submitted --out power --nodes 1-2 --ranks-per-node 2 --launcher srun
paused 1 power teacher 6
host_crash 2
came_back "$job" 1
job_ends "$job" COMPLETED 120
says "power/slurm-$job.log" "start 2, on node1$"
says "power/slurm-$job.log" "teacher goes on from step [1-9]"
same_bits whole power teacher student
passed "a node without power"
node_boot 2
wait_until 60 nodes_idle 2

# Cable: the node of the job script and of ranks 0 and 1, which all go on living.
submitted --out cable --nodes 1-2 --ranks-per-node 2 --launcher mpirun
reached cable teacher 2
paused 1 cable teacher 6
host_cut 1
resumed 1 cable
came_back "$job" 1
wait_until 60 said "cable/slurm-$job.log" "start 2, on node2$"
wait_until 60 no_ranks 1
job_ends "$job" COMPLETED 120
same_bits whole cable teacher student
host_mend 1
passed all
