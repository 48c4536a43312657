#!/bin/sh
# A sharded optimizer changes no bit of a run, its student and averages included, and goes on from
# any checkpoint: of a run that was not sharded, of other ranks, and back.
. "$(dirname "$0")/common.sh"
recipe
sed -i 's/arch: conv12\/4/arch: conv4\/4/; s/optimizer: {/optimizer: {shard: false, /; s/baseline, //
    0,/optimizer: {/s//optimizer: {kind: adamw, /' recipe.yaml

sharded() { # true or false
    sed -i "s/shard: [a-z]*/shard: $1/" recipe.yaml
}

expect 0 run whole 2
weights=$(sed -n 's/.*weights and moments \([^,]*\), .*/\1/p' "$work/output" | head -1)
sharded true
expect 0 run own 4
same_bits whole own teacher student
own=$(sed -n 's/.*weights and moments \([^,]*\), .*/\1/p' "$work/output" | head -1)
[ -n "$own" ] && [ "$own" != "$weights" ] || fail "sharded, a rank still holds $own"

# An epoch has 9 steps, and ends with a checkpoint.
killed moved 2 teacher 5
sharded false
killed moved 4 teacher 12
sharded true
killed moved 4 student 11
sharded false
killed moved 1 student 20
sharded true
expect 0 run moved 2
grep -q 'goes on from step' "$work/output" || fail "the student began anew: $(cat "$work/output")"
grep -q 'shard: true' moved/recipe.yaml || fail "the folder's recipe is not the one that ran"
same_bits whole moved teacher student
