#!/bin/sh
# Whole runs by the CUDA engine and its collectives, as retort-worker joins them: on the software
# GPU, or with RETORT_DEVICE=cuda on GPUs (skipped where there is none).
. "$(dirname "$0")/common.sh"
gpus_or_skip

"$retort" synth pictures --classes 4 --per-class 16 --val-per-class 8 --size 16 --seed 1
"$retort" pack pictures small.h5
recipe
sed -i 's#path: .*#path: small.h5}#; s#conv12/4#conv4/4#; s/epochs: 3/epochs: 2/' recipe.yaml

# One GPU, two, and one that two ranks share: no bit differs. On software GPUs, the second run's
# streams run ahead and behind of each other.
expect 0 run on1 1
grep -q '1 rank on .* (.*f32); ' "$work/output" || fail "not in f32"
grep -q 'pictures [^(]*([1-9][^)]* of it on the GPU)' "$work/output" ||
    fail "the pictures are not on the GPU"
$soft && as='env SOFTGPU_POLICY=random:1'
expect 0 run on2 2
as=''
grep -Eq '2 ranks on .*, joined by NCCL |ranks 0 and 1 share a GPU' "$work/output" ||
    fail "how two ranks are joined is not said"
same_bits on1 on2
[ "$(bits on1 student | head -2)" != "$(bits on1 baseline | head -2)" ] ||
    fail "the student is the baseline"
if $soft; then
    grep -q '2 ranks on software GPU (.*), joined by NCCL ' "$work/output" || fail "not by NCCL"
    as='env SOFTGPU_DEVICES=1'
    expect 0 run shared 2 --stages teacher
    as=''
    [ "$(grep -c 'ranks 0 and 1 share a GPU: sums between ranks go through host memory' \
        "$work/output")" = 1 ] || fail "that a GPU is shared was not said once"
    same_bits on1 shared teacher

    # Without room for the training pictures (the third piece of memory that a rank asks for).
    as='env SOFTGPU_INJECT=cudaMalloc:3:2'
    expect 0 run roomless 2 --stages teacher
    as=''
    [ "$(grep -c "no room to spare for the pictures of train (.*: they stay .* on all ranks" \
        "$work/output")" = 1 ] || fail "that pictures stay on the host was not said once"
    ! grep -q 'room to spare for the pictures of val' "$work/output" || fail "val has no room"
    same_bits on1 roomless teacher
fi

# Killed in training and in the logit pass, it goes on, once on another number of GPUs.
killed parts 2 teacher 3
killed parts 1 "logits view 2" -1
killed parts 2 student 2
expect 0 run parts 2
! grep -q 'engine plan' "$work/output" || fail "it goes on by another plan: $(cat "$work/output")"
same_bits on1 parts
metrics_are_whole parts
grep -q '"device": "cuda"' parts/summary.json || fail "summary.json names another device"

# In bf16, which is what GPUs do when they are not asked: other bits, and the same ones on any
# number of GPUs.
expect 0 run half1 1 --stages teacher --set run.precision=auto --set teacher.epochs=1
grep -q '1 rank on .* (.*bf16); ' "$work/output" || fail "not in bf16"
grep -q '^  precision: bf16$' half1/recipe.yaml || fail "the recipe does not keep what auto was"
expect 0 run half2 2 --stages teacher --set run.precision=bf16 --set teacher.epochs=1
same_bits half1 half2 teacher
grep -q '"precision": "bf16"' half1/summary.json || fail "summary.json names another precision"
expect 0 "$retort" eval half1 --device "$device" --ranks 1
[ "$(sed -n 's/.*val_loss":\([^,}]*\).*/\1/p' on1/metrics.jsonl | head -1)" != \
    "$(sed -n 's/.*val_loss":\([^,}]*\).*/\1/p' half1/metrics.jsonl | head -1)" ] ||
    fail "bf16 is f32"

# In fp16, from a scale of the loss that is too large: updates are skipped until it fits, the same
# ones on any number of GPUs, and a resume knows the scale.
narrow() { # run|start FOLDER RANKS
    "$1" "$2" "$3" --stages teacher --set run.precision=fp16 --set run.loss_scale=1048576 \
        --set run.loss_scale_steps=3
}
expect 0 narrow run narrow1 1
narrow start narrow2 2
"$RETORT_HELPERS/kill_at" narrow2 teacher 3 || fail "no rank to kill"
ended 4
expect 0 narrow run narrow2 2
same_bits narrow1 narrow2 teacher
grep '"event":"epoch"' narrow1/metrics.jsonl | tail -1 >scale1
for key in loss_scale skipped_steps; do
    value=$(sed -n "s/.*\"$key\":\([0-9.]*\).*/\1/p" scale1)
    echo "$key in fp16: $value"
    [ "$value" = "$(grep '"event":"epoch"' narrow2/metrics.jsonl | tail -1 |
        sed -n "s/.*\"$key\":\([0-9.]*\).*/\1/p")" ] || fail "another $key after a resume"
done
grep -q '"skipped_steps":[1-9]' scale1 || fail "nothing was skipped: $(cat scale1)"
expect 0 "$retort" eval narrow1 --device "$device" --ranks 1
expect 2 run odd 1 --set run.precision=fp16 --set run.loss_scale=1000
one_error "run.loss_scale: 1000 is no power of two"
expect 2 run odd 1 --set run.precision=fp16 --set teacher.optimizer.shard=true
one_error "run.precision: fp16 needs all gradients on each rank"

# What training measured last is what eval finds, on any number of GPUs; the CPU is close.
value() { # KEY: a number of the JSON in the output
    sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$work/output"
}
for on in "$device 1" "$device 2" "cpu 1"; do
    expect 0 "$retort" eval on1 --weights ema --json --device "${on% *}" --ranks "${on#* }"
    [ "$(value count)" = 32 ] || fail "eval counts $(value count) pictures"
    value loss >"loss.${on% *}${on#* }"
done
cmp "loss.${device}1" "loss.${device}2" || fail "eval on two GPUs differs"
said=$(sed -n '/"student_ema"/,/}/s/.*"loss": \([0-9.e+-]*\).*/\1/p' on1/summary.json)
echo "loss of the student's average: $said; $(cat "loss.${device}1") by eval, $(cat loss.cpu1) on the CPU"
awk "BEGIN { a = $said - $(cat "loss.${device}1"); b = $said - $(cat loss.cpu1)
    exit !(a * a < 1e-12 && b * b < 1e-8) }" || fail "eval finds another loss"
expect 0 "$retort" predict on1 pictures/val/images/val_0.JPEG --device "$device"
[ "$(grep -c ' % ' "$work/output")" = 4 ] || fail "predict does not name four classes"

expect 0 "$retort" bench --device "$device" --arch conv4/4 --batch 2 --ranks 2 --seconds 1 --json
grep -q "\"device\":\"$device\".*\"precision\":\"bf16\",\"ranks\":2" "$work/output" ||
    fail "no such bench"
awk "BEGIN { exit !($(value images_per_s) > 0) }" || fail "bench measures nothing"
for precision in tf32 fp16; do
    expect 0 "$retort" bench --device "$device" --arch conv4/12 --batch 1 --ranks 1 --seconds 1 \
        --json --precision $precision
    grep -q "\"precision\":\"$precision\"" "$work/output" || fail "bench is not in $precision"
done

# A run stays where it began, and why a GPU cannot be used is one line.
expect 2 run on1 1 --device cpu
one_error "was begun on device cuda, not cpu"
mkdir no-plugins
as="env RETORT_PLUGINS=$work/no-plugins"
expect 2 run none 2 --device cuda
one_error "device cuda: there is no libretort_cuda.so in $work/no-plugins"
if $soft; then
    as='env SOFTGPU_DEVICES=0'
    expect 2 run none 2
    one_error "device cuda: no GPU can be used"
    as='env SOFTGPU_MEMORY=20971520'
    expect 2 run none 2
    one_error "device cuda: software GPU has no free memory (20 of 20 MiB)"
    expect 0 "$RETORT_BIN/retort-worker" devices "$device"
    grep -q '"memory_bytes":2147483648,"free_bytes":2147483648,' "$work/output" ||
        fail "what is free is not said: $(cat "$work/output")"
fi
as=''
[ ! -e none/recipe.yaml ] || fail "a refused start left its recipe"
