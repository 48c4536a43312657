#!/bin/bash
# Four ranks on two nodes, by srun and by mpirun, in one job, to the same bits; each rank sees the GPUs of its node and
# has the number to pick its own by, or is given its own alone. A PMI that starts N worlds of one rank is refused.
. "$(dirname "$0")/lib.bash"
cluster_start 2 4 2
slurm_recipe
expect 0 run whole 4 --stages teacher

# What a rank sees as it starts.
cat >seen <<END
#!/bin/bash
local=\${OMPI_COMM_WORLD_LOCAL_RANK-\$SLURM_LOCALID}
[ "\$1" = probe ] || [ "\$1" = devices ] || echo "\$(hostname) \$local \$CUDA_VISIBLE_DEVICES" >>"\$SEEN"
exec $RETORT_BIN/retort-worker "\$@"
END
# A rank without its launcher's PMI, as with a Slurm and an MPI that do not know of each other.
cat >single <<END
#!/bin/bash
task=\$SLURM_PROCID
unset "\${!SLURM@}" "\${!PMI@}"
SLURM_PROCID=\$task exec $RETORT_BIN/retort-worker "\$@"
END
cat >job <<END
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=2 --gpus-per-node=2 --output=job.log
train() {
    retort run recipe.yaml --stages teacher --threads 1 --out "\$@" >"\$1.log" 2>&1 || echo "\$1 ended with \$?"
}
export RETORT_WORKER=$work/seen SEEN
SEEN=$work/srun.seen train srun --launcher srun
SEEN=$work/mpirun.seen train mpirun --launcher mpirun
SEEN=$work/bound.seen SLURM_GPU_BIND=single:1 train auto
# srun without PMIx: auto finds out.
mkdir bin
printf '#!/bin/bash\nargs=("\$@")\nexec /usr/bin/srun "\${args[@]/#--mpi=pmix/--mpi=none}"\n' >bin/srun
chmod +x bin/srun
export PATH=\$PWD/bin:\$PATH
SEEN=$work/fallback.seen train fallback
RETORT_WORKER=$work/single train refused --launcher srun
END
chmod +x seen single
job=$(sbatch --parsable job)
job_ends "$job" COMPLETED 200
[ "$(cat job.log)" = "refused ended with 2" ] || fail "the job said: $(cat job.log)"
for folder in srun mpirun auto fallback; do
    same_bits whole "$folder" teacher
    says "$folder.log" "4 ranks of 1 thread"
done
passed "the same bits by srun, mpirun and what auto takes"

says srun/mpirun.log '^env .*srun --mpi=pmix '
says mpirun/mpirun.log '^mpirun -n 4 '
says auto/mpirun.log '^env .*srun --mpi=pmix '
says fallback/mpirun.log '^mpirun -n 4 '
says fallback.log "srun starts no MPI ranks here .*: mpirun does"
says refused.log "error: .*MPI size is not what the launcher asked for: 1 in place of 4"
[ "$(grep -c 'error: ' refused.log)" = 1 ] || fail "not one line: $(cat refused.log)"
[ ! -e refused/metrics.jsonl ] || [ ! -s refused/metrics.jsonl ] || fail "a refused rank has trained"

all_gpus='node1 0 0,1
node1 1 0,1
node2 0 0,1
node2 1 0,1'
[ "$(sort srun.seen)" = "$all_gpus" ] || fail "under srun: $(sort srun.seen)"
[ "$(sort mpirun.seen)" = "$all_gpus" ] || fail "under mpirun: $(sort mpirun.seen)"
[ "$(cut -d' ' -f1,3 bound.seen | sort)" = 'node1 0
node1 1
node2 0
node2 1' ] || fail "bound: $(cat bound.seen)"
passed all
