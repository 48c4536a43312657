#!/bin/sh
# export, import and predict, from the command line: what comes back counts the same, predict sees
# what eval counted, and what is wrong is said in one line with nothing left behind.
. "$(dirname "$0")/common.sh"
recipe
# Pictures of another size than the network's: predict resizes them as pack has.
expect 0 "$retort" synth pictures --classes 4 --per-class 40 --val-per-class 33 --size 48 --seed 3
expect 0 "$retort" pack pictures data.h5 --size 32
expect 0 run run 2 --set data.path=data.h5 --stages teacher --set teacher.arch=conv4/4 \
    --set teacher.epochs=4
[ "$precision" = f32 ] || { echo "skipped: exported weights are f64's here"; exit 77; }

# The bits are the run's own, in the file and behind the way back.
for weights in raw ema; do
    expect 0 "$retort" export run $weights.safetensors --weights $weights --stage teacher
    expect 0 "$retort" import $weights.safetensors $weights.h5
    expect 0 "$retort" verify $weights.h5
    expect 0 "$retort" export $weights.h5 again.safetensors
    cmp $weights.safetensors again.safetensors || fail "what was imported is exported otherwise"
done
if cmp -s raw.safetensors ema.safetensors; then fail "the average is the raw weights"; fi
bits_of() {
    "$RETORT_HELPERS/weights" "$1" | grep '^weights'
}
[ "$(bits_of run/teacher/last.h5)" = "$(bits_of raw.h5)" ] || fail "other weights came back"

# It brings no engine plan: the ranks go by one that the first of them chose.
for ranks in 1 3; do
    expect 0 "$retort" eval raw.h5 --data data.h5 --ranks $ranks --threads 1 --logits $ranks.h5
done
cmp 1.h5 3.h5 || fail "3 ranks keep other logits of what was imported"

# predict names the class of as many pictures as eval counted.
expect 0 "$retort" eval raw.h5 --data data.h5 --ranks 1 --threads 1 --json
loss=$(sed 's/.*"loss":\([0-9.e-]*\).*/\1/' "$work/output")
grep -A4 '"teacher": {' run/summary.json |
    awk -v loss="$loss" -F '[:,]' '/"loss"/ { d = $2 - loss; exit !(d < 1e-4 && d > -1e-4) }' ||
    fail "what was imported has another loss than the run: $loss"
counted=$(sed 's/.*"top1_count":\([0-9]*\),.*/\1/' "$work/output")
[ "$counted" -gt 50 ] || fail "a network that has learned nothing: $counted of 132"
expect 0 "$retort" predict raw.h5 --json --threads 1 pictures/val/images/*.JPEG
awk -F '\t' 'FILENAME ~ /words/ { id[$2] = $1 }
    FILENAME ~ /annotations/ { class[$1] = $2 }
    FILENAME ~ /output/ {
        name = $0; sub(/.*images\//, "", name); sub(/".*/, "", name)
        first = $0; sub(/.*"top":\[\{"class":"/, "", first); sub(/".*/, "", first)
        right += id[first] == class[name]
        sum = 0; last = 1
        while (match($0, /"probability":[0-9.e-]+/)) {
            p = substr($0, RSTART + 14, RLENGTH - 14) + 0
            if (p > last) exit 1
            sum += p; last = p; shown++
            $0 = substr($0, RSTART + RLENGTH)
        }
        if (sum < 0.999999 || sum > 1.000001) exit 1
    }
    END { print right, shown / 4 }' pictures/words.txt pictures/val/val_annotations.txt \
    "$work/output" >predicted || fail "probabilities that are none"
[ "$(cat predicted)" = "$counted 132" ] || fail "eval counts $counted, predict $(cat predicted)"

# For people; the run folder stands for its checkpoint.
one=$(ls pictures/val/images/*.JPEG | head -1)
expect 0 "$retort" predict run "$one" --weights ema
[ "$(wc -l <"$work/output")" = 5 ] || fail "not a line a class"
[ "$(sed -n 1p "$work/output")" = "$one" ] || fail "the picture is not named"
grep -qE '^ +[0-9]+\.[0-9]{2} %  [a-z]' "$work/output" || fail "no class with its probability"

# A teacher for a run's student.
expect 0 run distilled 2 --set data.path=data.h5 --stages logits,student --set student.epochs=1 \
    --set teacher.arch=conv4/4 --set "teacher.from=$work/raw.h5"

# What is wrong.
refused() { # CODE WORD COMMAND…
    code=$1 word=$2
    shift 2
    expect "$code" "$retort" "$@"
    one_error "$word"
    [ "$(grep -c . "$work/output")" = 1 ] || fail "more than one line: $*"
    nothing_half_written .
}
seq 1000 >text
head -c 600 "$one" >cut.jpg
head -c 3000 raw.h5 >cut.h5
cp raw.h5 flipped.h5
printf 'x' | dd of=flipped.h5 bs=1 seek=6000 conv=notrunc status=none
head -c 3000 raw.safetensors >cut.safetensors
for command in "predict CKPT $one" "export CKPT no.safetensors"; do
    for bad in nowhere text cut.h5 flipped.h5 data.h5; do
        # shellcheck disable=SC2046 # several words
        refused 3 $bad $(echo "$command" | sed "s/CKPT/$bad/")
    done
done
refused 3 nowhere.jpg predict raw.h5 "$one" nowhere.jpg
refused 3 text predict raw.h5 "$one" text
refused 3 cut.jpg predict raw.h5 cut.jpg "$one"
refused 3 pictures predict raw.h5 pictures
refused 3 "no EMA weights" predict raw.h5 "$one" --weights ema
refused 3 "no EMA weights" export raw.h5 no.safetensors --weights ema
refused 3 student/last.h5 export run no.safetensors --stage student
for bad in nowhere text cut.safetensors raw.h5; do
    refused 3 $bad import $bad no.h5
done
refused 3 conv1.weight import raw.safetensors no.h5 --arch conv4
refused 5 nowhere/x export raw.h5 nowhere/x
refused 5 nowhere/x import raw.safetensors nowhere/x
[ ! -e no.safetensors ] && [ ! -e no.h5 ] || fail "a refused command has written"
if [ -e /dev/full ]; then
    expect 5 sh -c "'$retort' predict raw.h5 $one >/dev/full"
    one_error "standard output"
fi
