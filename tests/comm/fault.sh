#!/bin/sh
# A failing rank ends the whole job: fault.sh MPIRUN PROGRAM KIND RANKS CODE SECONDS TEXT
# The job must leave with CODE within SECONDS of the failure, print TEXT (a pattern) on one line, and
# leave no process behind.
set -u
mpirun=$1 program=$2 kind=$3 ranks=$4 code=$5 seconds=$6 text=$7
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "FAILED: $1"
    cat "$folder/log"
    exit 1
}

timeout -k 1 60 "$mpirun" --oversubscribe -n "$ranks" "$program" "$kind" "$folder/ranks" \
    >"$folder/log" 2>&1
got=$?
ended=$(date +%s)
[ "$got" -ne 77 ] || exit 77 # skipped
[ -e "$folder/ranks/failing" ] || fail "no rank came to its failure"
took=$((ended - $(date -r "$folder/ranks/failing" +%s)))

[ "$got" -eq "$code" ] || fail "exit code $got, expected $code"
[ "$took" -le "$seconds" ] || fail "it took $took s, expected at most $seconds"
lines=$(grep -c -E "$text" "$folder/log")
[ "$lines" -eq 1 ] || fail "$lines lines match \"$text\", expected one"
lines=$(grep -c '\] error: ' "$folder/log")
[ "$lines" -le 1 ] || fail "$lines lines say what failed"
for state in "$folder"/ranks/*.state; do
    pid=$(sed -n 's/^pid *\([0-9]*\).*/\1/p' "$state")
    [ -n "$pid" ] || fail "$state names no pid"
    tries=100 # what is killed takes a moment to be gone
    while grep -Eqs '^State:[[:space:]]+[^ZX[:space:]]' "/proc/$pid/status"; do
        [ $((tries -= 1)) -gt 0 ] || fail "process $pid is left behind"
        sleep 0.1
    done
done
[ "$(ls "$folder"/ranks/*.state | wc -l)" -eq "$ranks" ] || fail "state files are missing"
echo "exit code $got after $took s; $(grep -E "$text" "$folder/log")"
