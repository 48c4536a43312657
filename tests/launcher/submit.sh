#!/bin/bash
# `retort submit` without a Slurm: the script it would submit, how it would submit it, and what it refuses. And the
# command lines of ranks inside an allocation, with srun played.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"

# The script is slurm/train.sbatch with other settings.
template=$here/../../slurm/train.sbatch
settings='/^# == settings$/,/^# == end of settings$/d'
expect 0 "$retort" submit recipe.yaml --dry-run --nodes 1-4 --ranks-per-node 2 --threads 3 --gpus-per-node 2 \
    --time 1:00:00 --partition long --account physics --module openmpi --module 'my hdf5' --warn 60 \
    --set teacher.epochs=2 --set data.path=data.h5 --launcher srun --max-restarts 3 -- --mem=3G --comment 'of mine'
diff <(sed "$settings" "$template") <(sed "$settings; /^sbatch /d" out) || fail "the script is not the template"
bash -n out || fail "no script"
for line in '#SBATCH --job-name=recipe' "#SBATCH --chdir=$work" '#SBATCH --output=runs/recipe/slurm-%j.log' \
    '#SBATCH --nodes=1-4' '#SBATCH --mincpus=6' 'ranks_per_node=2' '#SBATCH --gpus-per-node=2' \
    '#SBATCH --time=1:00:00' '#SBATCH --partition=long' '#SBATCH --account=physics' \
    '#SBATCH --signal=B:USR1@60' "modules=(openmpi 'my hdf5')" "retort=$retort" 'recipe=runs/recipe/job.yaml' \
    'out=runs/recipe' 'sweep=()' "sbatch --parsable --mem=3G --comment 'of mine' runs/recipe/job.sbatch"; do
    grep -qxF -- "$line" out || fail "no line \"$line\""
done
says out '^options=\(--threads 3 --set teacher.epochs=2 --set data.path=data.h5 --set run.microbatches=8 --launcher srun --max-restarts 3\)$'
[ ! -e runs ] || fail "a dry run made a folder"

# One rank a GPU, and otherwise one; micro-batches that are said stay.
expect 0 "$retort" submit recipe.yaml --dry-run --gpus-per-node 4
says out '^#SBATCH --ntasks-per-node=4$'
expect 0 "$retort" submit recipe.yaml --dry-run --nodes 3 --set run.microbatches=16 --set run.threads=5
says out '^#SBATCH --ntasks-per-node=1$'
says out '^#SBATCH --cpus-per-task=5$'
says out '^options=\(--threads 5 --set run.microbatches=16 --set run.threads=5\)$'

# A chain is a job a stage.
expect 0 "$retort" submit recipe.yaml --dry-run --chain --array run.seed=1,2
says out '^#SBATCH --array=0-1$'
says out '^#SBATCH --output=runs/recipe/slurm-%A_%a.log$'
says out '^sweep=\(run.seed=1 run.seed=2\)$'
[ "$(grep '^sbatch' out | sed 's/--parsable //; s/runs.*batch //')" = 'sbatch --stages teacher
sbatch --dependency=aftercorr:JOB --kill-on-invalid-dep=yes --stages logits
sbatch --dependency=aftercorr:JOB --kill-on-invalid-dep=yes --stages student' ] || fail "the chain"

# What could not start is not submitted.
expect 2 "$retort" submit recipe.yaml --nodes 4 --set run.microbatches=2
says err 'micro-batches'
expect 3 "$retort" submit recipe.yaml --set data.path=nowhere.h5
says err 'nowhere.h5'
[ ! -e runs ] || fail "a refused job made a folder"

# sbatch is played: it refuses, or says the number; there may be none.
mkdir bin
PATH=$work/bin:$PATH
printf '#!/bin/sh\necho "sbatch: error: no such partition" >&2\nexit 1\n' >bin/sbatch
chmod +x bin/sbatch
expect 2 "$retort" submit recipe.yaml
says err 'no such partition'
says err 'sbatch has refused the job'
printf '#!/bin/sh\necho "$@" >>calls\necho "12;here"\n' >bin/sbatch
cat recipe.yaml >other.yaml
expect 0 "$retort" submit other.yaml --chain
says out '^job 12: runs/other, logits$'
[ "$(cat calls)" = '--parsable runs/other/job.sbatch --stages teacher
--parsable --dependency=afterok:12 --kill-on-invalid-dep=yes runs/other/job.sbatch --stages logits
--parsable --dependency=afterok:12 --kill-on-invalid-dep=yes runs/other/job.sbatch --stages student' ] ||
    fail "calls of sbatch: $(cat calls)"
cmp recipe.yaml runs/other/job.yaml || fail "the recipe's copy"
says runs/other/job.sbatch '^out=runs/other$'
expect 0 "$retort" submit other.yaml --fresh
[ -e runs/other.old-1/job.yaml ] || fail "the old folder is not aside"
rm bin/sbatch
PATH=$work/bin expect 1 "$retort" submit other.yaml
says err 'sbatch is not in the PATH'

# Inside an allocation of 2 and 1 tasks. srun is played: what it starts counts itself, or not.
printf '#!/bin/sh\nfor word; do last=$word; done\n[ "$last" = probe ] || exit 9\n[ ! -e broken ] || { echo "no PMIx" >&2; exit 1; }\n' >bin/srun
chmod +x bin/srun
export SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 SLURM_TASKS_PER_NODE='2,1' SLURM_CPUS_ON_NODE=64
expect 0 "$retort" run recipe.yaml --dry-run --threads 2
says out '^env .*OMP_NUM_THREADS=2 .*srun --mpi=pmix .*--nodes=2 --ntasks=3 .*fake-worker run runs/recipe'
quiet_about out 'ntasks-per-node|-x '
SLURM_CPUS_PER_TASK=6 expect 0 "$retort" run recipe.yaml --dry-run --launcher srun
says out '--ntasks=3 --cpus-per-task=6 '
SLURM_TASKS_PER_NODE='2(x3),1' SLURM_JOB_NUM_NODES=4 expect 0 "$retort" run recipe.yaml --dry-run
says out '--nodes=4 --ntasks=7 '
expect 0 "$retort" run recipe.yaml --dry-run --set run.microbatches=2
says out '--nodes=2 --ntasks=2 '
expect 0 "$retort" run recipe.yaml --dry-run --ranks 4
says out '--ntasks=4 --ntasks-per-node=2 --cpus-per-task=[1-9]'
SLURM_CPUS_ON_NODE=1 expect 0 "$retort" run recipe.yaml --dry-run --ranks 4
says out '--ntasks=4 --ntasks-per-node=2 --overcommit '
expect 0 "$retort" run recipe.yaml --dry-run --launcher mpirun
says out '^mpirun -n 3 .*-x OMP_NUM_THREADS='
expect 0 "$retort" run recipe.yaml --dry-run --hosts a:2,b:2
says out '^mpirun -n 4 --host a:2,b:2 '
expect 2 "$retort" run recipe.yaml --dry-run --hosts a:2,b:2 --launcher srun
says err '--hosts is for mpirun'
: >broken
expect 0 "$retort" run recipe.yaml --dry-run
says out 'srun starts no MPI ranks here \(no PMIx\): mpirun does'
says out '^mpirun -n 3 '
unset SLURM_JOB_ID
expect 2 "$retort" run recipe.yaml --dry-run --launcher srun
says err 'this is no Slurm allocation'
export SLURM_JOB_ID=7
expect 0 "$retort" run recipe.yaml --dry-run --ranks 4 --threads 1 --launcher mpirun
says out '^mpirun -n 4 --map-by ppr:2:node(:PE=1)? (--oversubscribe )?--bind-to'
