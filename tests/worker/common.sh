# What the shell tests of the worker share. Sourced; CTest sets RETORT_BIN (the programs),
# RETORT_HELPERS (weights, kill_at, die_at.so) and RETORT_DATA (shapes.h5, other.h5, tiny.h5).

set -eu
retort=$RETORT_BIN/retort
tests=$(cd "$(dirname "$0")/.." && pwd)
device=${RETORT_DEVICE:-auto}
as=''
precision=f32
[ "$device" != reference ] || precision=f64
work=$(mktemp -d "${TMPDIR:-/tmp}/retort-test.XXXXXX")
export XDG_CACHE_HOME="$work/cache" # engine plans are shared by the runs of one test
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Of the tests of GPUs: on the software GPU two of them, else skipped where there is none to use.
gpus_or_skip() {
    soft=true
    [ "$device" = softgpu ] || soft=false
    if $soft; then
        export RETORT_PLUGINS="$RETORT_HELPERS" SOFTGPU_DEVICES=2
    else
        "$tests/gpu/usable" "$retort" || exit 77
    fi
}

# expect CODE COMMAND…: the command ends with that code; its output is in $work/output.
expect() {
    wanted=$1
    shift
    got=0
    "$@" >"$work/output" 2>&1 || got=$?
    if [ "$got" != "$wanted" ]; then
        cat "$work/output"
        fail "code $got in place of $wanted: $*"
    fi
}

# one_error WORD…: the output has exactly one line of an error, and the words are in it.
one_error() {
    count=$(grep -c 'error: ' "$work/output" || true)
    if [ "$count" != 1 ]; then
        cat "$work/output"
        fail "$count error lines in place of one"
    fi
    for word; do
        grep 'error: ' "$work/output" | grep -qF -- "$word" ||
            fail "no \"$word\" in: $(grep 'error: ' "$work/output")"
    done
}

# nothing_half_written FOLDER
nothing_half_written() {
    [ -z "$(find "$1" -name '*.partial')" ] || fail "left behind: $(find "$1" -name '*.partial')"
}

# run FOLDER RANKS [option…]: the test's recipe.
run() {
    folder=$1 ranks=$2
    shift 2
    $as "$retort" run recipe.yaml --out "$folder" --ranks "$ranks" --threads 1 --device "$device" "$@"
}

# start FOLDER RANKS [option…]: the same in the background; the launcher's pid is in $launcher.
start() {
    rm -f "$1"/ranks/*.state # else the last start's would be taken for this one's
    # The launcher itself, not a shell that waits for it; and a shell's background ignores INT.
    as='exec env --default-signal=INT'
    run "$@" >"$work/output" 2>&1 &
    launcher=$!
    as=''
}

# ended CODE: waits for what start started.
ended() {
    got=0
    wait "$launcher" || got=$?
    if [ "$got" != "$1" ]; then
        cat "$work/output"
        fail "code $got in place of $1"
    fi
}

# killed FOLDER RANKS PHASE STEP [PHASE STEP]…: starts the run and kills its ranks there.
killed() {
    folder=$1 ranks=$2
    shift 2
    start "$folder" "$ranks"
    if ! "$RETORT_HELPERS/kill_at" "$folder" "$@"; then
        wait "$launcher" || true
        cat "$work/output"
        fail "no rank to kill at $*"
    fi
    ended 4
    one_error "signal 9"
}

# bits FOLDER [STAGE…]: checksums of the stages' last checkpoints.
bits() {
    folder=$1
    shift
    for stage in "${@:-teacher baseline student}"; do
        # One word or several: the default is a list.
        for one in $stage; do
            echo "$one"
            "$RETORT_HELPERS/weights" "$folder/$one/last.h5"
        done
    done
}

# same_bits FOLDER OTHER [STAGE…]
same_bits() {
    a=$1 b=$2
    shift 2
    bits "$a" "$@" >"$work/bits.a"
    bits "$b" "$@" >"$work/bits.b"
    diff "$work/bits.a" "$work/bits.b" || fail "$a and $b hold different bits"
}

# lines_of FOLDER: "event stage epoch step" of each line of metrics.jsonl.
lines_of() {
    sed -n 's/.*"event":"\([a-z]*\)","stage":"\([a-z]*\)","epoch":\([0-9]*\),"step":\([0-9]*\),.*/\1 \2 \3 \4/p' \
        "$1/metrics.jsonl"
}

# metrics_are_whole FOLDER: every line can be read, and none stands twice.
metrics_are_whole() {
    [ "$(lines_of "$1" | wc -l)" = "$(wc -l <"$1/metrics.jsonl")" ] ||
        fail "$1/metrics.jsonl has lines that are none"
    [ -z "$(lines_of "$1" | sort | uniq -d)" ] ||
        fail "twice in $1/metrics.jsonl: $(lines_of "$1" | sort | uniq -d)"
}

# recipe [line…]: recipe.yaml with all stages, the last batch of 16 and the others of 18.
recipe() {
    cat >recipe.yaml <<EOF
data: {path: $RETORT_DATA/shapes.h5}
teacher:
  arch: conv12/4
  epochs: 2
  batch: 18
  optimizer: {lr: 0.02}
student:
  arch: conv4/4
  epochs: 3
  batch: 18
  optimizer: {lr: 0.02}
logits: {views: 2}
run:
  stages: [teacher, logits, baseline, student]
  microbatches: 4
  threads: 1
  checkpoint_every_s: 0.05
  log_every_s: 0.01
  precision: $precision
EOF
}
