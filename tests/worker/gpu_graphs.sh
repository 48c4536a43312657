#!/bin/sh
# Steps that the CUDA engine replays from graphs against the same steps queued one by one, and sums of
# gradients that run beside backward against one rank: no bit differs, over several epochs with a
# smaller last batch, momentum, EMA and a student whose teacher's views alternate. On the software GPU.
. "$(dirname "$0")/common.sh"
gpus_or_skip
plain='env RETORT_CUDA_EAGER=1'

"$retort" synth pictures --classes 4 --per-class 10 --val-per-class 4 --size 16 --seed 1
"$retort" pack pictures small.h5
recipe
sed -i 's#path: .*#path: small.h5}#; s#conv12/4#conv4/4#; s/baseline, //
    s/microbatches: 4/microbatches: 2/; s/checkpoint_every_s.*/checkpoint_every_s: 300/' recipe.yaml

# launches: how many graphs were launched, in what was traced.
launches() {
    grep -c '^softgpu: .*: cudaGraphLaunch$' "$work/output" || true
}

# An epoch has two batches of 18 and one of 4. Of the teacher's four and two all but the first are
# launched; beside them the second evaluation of each kind of weights.
as="$plain SOFTGPU_TRACE=1"
expect 0 run plain 1
[ "$(launches)" = 0 ] || fail "$(launches) graphs launched without any"
as='env SOFTGPU_TRACE=1'
expect 0 run graphs 1 --stages teacher
[ "$(launches)" = $((3 + 1 + 2)) ] || fail "$(launches) graphs launched"
as='env SOFTGPU_POLICY=random:1 SOFTGPU_TRACE=1'
expect 0 run graphs 2
grep -q '2 ranks on software GPU (.*), joined by NCCL ' "$work/output" || fail "not by NCCL"
same_bits plain graphs "teacher student"
# In each of the student's three times three steps a rank adds what its peer has of three buckets.
adds=$(grep -c '^softgpu: .*add_kernel' "$work/output" || true)
[ "$adds" = $((9 * 3 * 2)) ] || fail "$adds additions: not three buckets a step"
as="$plain SOFTGPU_POLICY=random:2"
expect 0 run plain2 2 --stages teacher
same_bits plain plain2 teacher

# A step that one rank cannot capture is replayed by none.
as='env SOFTGPU_INJECT=cudaGraphInstantiate:1:2@1'
expect 0 run refused 2 --stages teacher
grep -q 'a step is not captured as a CUDA graph: another rank could not' "$work/output" ||
    fail "rank 0 replays: $(cat "$work/output")"
same_bits plain refused teacher

# With statistics of the whole batch, whose sums meet within the graph.
sync='--stages teacher --set teacher.norm=batch_sync --set run.microbatches=4'
as=$plain
expect 0 run plain_sync 1 $sync
as='env SOFTGPU_POLICY=random:3'
expect 0 run graphs_sync 2 $sync
same_bits plain_sync graphs_sync teacher
as='env SOFTGPU_POLICY=lazy SOFTGPU_DEVICES=4'
expect 0 run graphs_sync4 4 $sync
same_bits plain_sync graphs_sync4 teacher

# A loss that is not finite, in a step that is replayed: one line, and no such weights are kept.
as=''
expect 8 run diverged 1 --stages teacher --set teacher.optimizer.lr=1e20
one_error "the loss is not finite at step"
[ ! -e diverged/teacher/last.h5 ] || fail "a checkpoint behind it"
