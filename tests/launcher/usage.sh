#!/bin/bash
# Wrong usage is refused with code 2 and one line; the help lists what there is.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"

refused() { # PATTERN ARGUMENTS...
    local pattern=$1
    shift
    expect 2 "$retort" "$@"
    one_line err
    says err "^error: .*$pattern"
}

refused 'no command'
refused 'unknown command rnu; did you mean run\?' rnu
refused 'unknown command inspekt; did you mean inspect\?' inspekt
refused 'run: RECIPE.yaml is missing' run
refused 'run: a word too many' run a.yaml b.yaml
refused 'run: unknown option --rank-count' run --rank-count 2 recipe.yaml
refused 'run: --ranks wants a value' run recipe.yaml --ranks
refused 'run: --ranks 0: expected a whole number from 1' run recipe.yaml --ranks 0
refused 'run: --ranks 2x: expected a whole number' run recipe.yaml --ranks 2x
refused 'run: --threads -1: expected a whole number' run recipe.yaml --threads -1
refused 'run: --device gpu: expected auto\|cpu\|cuda\|reference$' run recipe.yaml --device gpu
refused 'run: --device au: expected' run recipe.yaml --device au
refused 'run: --out wants a value that is not empty' run recipe.yaml --out ''
refused 'run: --launcher slurm: expected auto\|mpirun\|srun' run recipe.yaml --launcher slurm
refused 'submit: RECIPE.yaml is missing' submit -- --mem=1G
refused 'submit: --nodes 2-1: expected a number or a range' submit recipe.yaml --nodes 2-1
refused 'submit: --nodes 1-: expected a number or a range' submit recipe.yaml --nodes 1-
refused 'submit: --nodes 2,4: expected a number or a range' submit recipe.yaml --nodes 2,4
refused 'submit: --max-restarts 101: expected a whole number from 0 to 100' submit recipe.yaml --max-restarts 101
refused 'submit: --array seed: expected KEY=V1' submit recipe.yaml --array seed
refused 'submit: --array run.seed=1,: a value is empty' submit recipe.yaml --array run.seed=1,
refused 'run.sead' submit recipe.yaml --array run.sead=1,2
refused 'eval: --data FILE is missing' eval data.h5
refused 'eval: --split test: expected val\|train' eval data.h5 --split test
refused 'predict: CKPT_OR_RUN IMAGE\.\.\. is missing' predict data.h5
refused 'predict: --weights best: expected raw\|ema' predict data.h5 a.jpg --weights best
refused 'export: CKPT_OR_RUN OUT.safetensors is missing' export data.h5
refused 'import: --norm layer: expected batch\|batch_sync\|none' import a b --norm layer
refused 'bench: a word too many' bench conv12
refused 'bench: 4 ranks, 2 micro-batches' bench --ranks 4 --microbatches 2
refused 'stop: RUN_DIR is missing' stop
refused 'report: RUN_DIR\.\.\. is missing' report --out page.html
refused 'run: --array seed: expected KEY=V1' run recipe.yaml --array seed
refused 'devices: a word too many' devices all

# What one process does alone is given its words as they are.
FAKE=words expect 0 "$retort" predict data.h5 'a b.jpg' '' --threads 3 c.png
[ "$(cat out)" = '[predict][data.h5][raw][0][auto][3][a b.jpg][][c.png]' ] || fail "other words"
FAKE=words expect 0 "$retort" import in out --mean 1,2,3
[ "$(cat out)" = '[import][in][out][][][][][][1,2,3][][]' ] || fail "other words"
FAKE=silent FAKE_CODE=8 expect 8 "$retort" export data.h5 out --weights ema
[ ! -e runs ] || fail "a refused command made a folder"

expect 0 "$retort" --help
for command in pack synth inspect verify run submit eval predict export import bench status report stop devices; do
    says out "^  $command +[a-z]"
    expect 0 "$retort" "$command" --help
    says out "^(usage: )?retort $command"
    says out '--help'
    expect 0 "$retort" --help
done
for code in 0 2 3 4 5 6 75; do
    says out "^  $code +[a-z]"
done
expect 0 "$retort" --version
says out '^retort [0-9]+\.[0-9]+\.[0-9]+$'

expect 3 "$retort" status nowhere
says err 'nowhere is no run folder'
expect 3 "$retort" stop nowhere
says err 'nowhere is no run folder'
expect 0 "$retort" devices
says out '^cores +[1-9]'
says out '^gpu +none: retort-worker does not say'

# GPUs, of which one is too old: what runs by default follows from the other two.
export FAKE_GPUS='{"libraries": "CUDA 13.0, NCCL 2.28", "files": ["/opt/lib/libnccl.so.2"],
 "driver": "for CUDA 13.1", "why": "", "gpus": [
 {"name": "Some GPU", "major": 9, "minor": 0, "memory_bytes": 85000000000, "free_bytes": 84000000000,
  "pci": "0000:3b:00.0", "near": "0-31", "why": ""},
 {"name": "Old GPU", "major": 7, "minor": 0, "memory_bytes": 16000000000, "why": "it is too old"},
 {"name": "Some GPU", "major": 9, "minor": 0, "memory_bytes": 85000000000, "free_bytes": 7000000, "why": ""}]}'
expect 0 "$retort" devices
says out '^gpu  *Some GPU, 85 GB \(84 GB free\), compute capability 9.0, PCI 0000:3b:00.0, near cores 0-31$'
says out '^gpu  *Some GPU, 85 GB \(7 MB free\), compute capability 9.0$'
says out '^gpu +Old GPU, 16 GB, compute capability 7.0; cannot be used: it is too old$'
"$here/../gpu/usable" "$retort" || fail "what wants a GPU would be skipped here"
says out '^driver +for CUDA 13.1$'
says out '^libraries +CUDA 13.0, NCCL 2.28$'
says out '^ {11}/opt/lib/libnccl.so.2$'
expect 0 "$retort" run recipe.yaml --dry-run
says out ' -n 2 .*--device cuda '
expect 0 "$retort" run recipe.yaml --dry-run --device cuda --ranks 3
says out ' -n 3 .*--device cuda '
expect 0 "$retort" run recipe.yaml --dry-run --device cuda --threads 1 --ranks "$("$retort" devices | sed -n 's/^cores *//p')"
says out ' --bind-to none ' # they find the cores near their GPUs
expect 0 "$retort" run recipe.yaml --dry-run --device cpu
says out '--device cpu '
FAKE_GPUS='{"why": "there is no driver", "gpus": []}' expect 0 "$retort" run recipe.yaml --dry-run
says out '--device cpu '
FAKE_GPUS='{"why": "there is no driver", "gpus": []}' expect 0 "$retort" devices
says out '^gpu +none: there is no driver$'
! FAKE_GPUS='{"why": "there is no driver", "gpus": []}' "$here/../gpu/usable" "$retort" || fail "a GPU where there is none"
! FAKE_GPUS='{"why": "", "gpus": [{"name": "Old", "major": 7, "minor": 0, "memory_bytes": 1, "why": "too old"}]}' \
    "$here/../gpu/usable" "$retort" || fail "a GPU that is too old was taken"
