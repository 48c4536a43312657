#!/bin/bash
# --print-recipe, --dry-run and the checks before a start.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"

# What is printed is a recipe, and printing that changes nothing.
expect 0 "$retort" run recipe.yaml --print-recipe --ranks 2 --set run.seed=7 --set student.batch=40
mv out first.yaml
says first.yaml 'seed: 7'
says first.yaml 'batch: 40'
says first.yaml 'microbatches: 2'
expect 0 "$retort" run first.yaml --print-recipe --ranks 2
cmp first.yaml out || fail "the printed recipe does not print itself"

# What auto is, is the device's; what a processor gains nothing by, it does not do: bf16 without AMX,
# unless it is AMD's.
for settled in cpu:f32 cuda:bf16 reference:f64; do
    expect 0 "$retort" run recipe.yaml --print-recipe --ranks 2 --device "${settled%:*}"
    says out "^  precision: ${settled#*:}\$"
done
gains=$(grep -cwm1 amx_bf16 /proc/cpuinfo || true)
if grep -q AuthenticAMD /proc/cpuinfo && grep -qw avx512_bf16 /proc/cpuinfo; then gains=1; fi
expect 0 "$retort" run recipe.yaml --print-recipe --ranks 2 --device cpu --set run.precision=bf16
if [ "$gains" = 1 ]; then
    says out '^  precision: bf16$'
    [ ! -s err ] || fail "a processor that gains by bf16 says: $(cat err)"
else
    says out '^  precision: f32$'
    says err 'run\.precision: this processor gains nothing by bf16; it computes in f32'
    one_line err
fi
# What it came to at the first start stays, on any processor.
for began in f32:1 bf16:0; do
    mkdir began
    echo cpu >began/device.txt
    sed "s/^  precision: .*/  precision: ${began%:*}/" out >began/recipe.yaml
    expect 0 "$retort" run recipe.yaml --print-recipe --out began --ranks 2 --set run.precision=bf16
    says out "^  precision: ${began%:*}\$"
    if [ "${gains:-0}" = "${began#*:}" ]; then
        says err "run\.precision: the run goes on in ${began%:*}, as it began"
        one_line err
    fi
    rm -r began
done
FAKE_GPUS='{"gpus": [{"why": ""}]}' expect 0 "$retort" run recipe.yaml --print-recipe
says out '^  precision: bf16$'

expect 2 "$retort" run recipe.yaml --set run.sede=7
says err 'run\.sede'
expect 3 "$retort" run nowhere.yaml
says err 'nowhere\.yaml'
expect 2 "$retort" run recipe.yaml --stages teacher,studnet
says err 'studnet'
expect 2 "$retort" run recipe.yaml --ranks 3 --set run.microbatches=2
says err 'microbatches'

expect 3 "$retort" run recipe.yaml --set data.path=none.h5
says err 'none\.h5'
says err 'retort pack'
echo 'a text that is longer than eight bytes' >text.h5
expect 3 "$retort" run recipe.yaml --set data.path=text.h5
says err 'text\.h5 is not a file of retort'

# The command line: one rank a core where they fit, else shared cores.
cores=$("$retort" devices | sed -n 's/^cores *//p')
expect 0 "$retort" run recipe.yaml --dry-run --ranks "$cores" --threads 1 --stages logits,teacher
says out "^mpirun -n $cores "
says out ' --map-by slot:PE=1 --bind-to core '
says out ' -x OMP_NUM_THREADS=1 '
says out ' -x RETORT_TERMINAL=0 '
says out 'fake-worker run runs/recipe --device cpu --stages teacher,logits$'
if [ "$cores" -gt 1 ]; then
    expect 0 "$retort" run recipe.yaml --dry-run --ranks 1 --threads 1
    says out '^mpirun -n 1 --bind-to none '
fi
expect 0 "$retort" run recipe.yaml --dry-run --ranks 50 --threads 64 --device reference --out here/
says out '^mpirun -n 50 --oversubscribe --bind-to none '
says out ' -x OMP_NUM_THREADS=64 -x OMP_WAIT_POLICY=PASSIVE '
says out ' run here --device reference --stages teacher,logits,student$'
expect 0 "$retort" run recipe.yaml --dry-run --hosts a:3,b
says out '^mpirun -n 4 --host a:3,b '
[ ! -e runs ] || fail "a dry run made a folder"

RETORT_WORKER=nowhere/worker expect 1 "$retort" run recipe.yaml --dry-run
says err 'RETORT_WORKER=nowhere/worker'
