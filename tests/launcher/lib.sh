# shellcheck shell=bash disable=SC2034
# What the launcher's tests share. Sourced with the path of `retort` in $1; works in a folder of
# its own, which is removed at the end.
set -uo pipefail
retort=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export RETORT_WORKER=$here/fake-worker

printf 'RETORT\r\n%1000s' ' ' >data.h5
echo 'data: {path: data.h5}' >recipe.yaml

fail() {
    echo "FAILED: $*"
    echo "--- stdout"
    cat out 2>/dev/null
    echo "--- stderr"
    cat err 2>/dev/null
    exit 1
}

# expect CODE COMMAND...: runs it, its output in the files out and err.
expect() {
    local wanted=$1 got=0
    shift
    "$@" >out 2>err </dev/null || got=$?
    [ "$got" -eq "$wanted" ] || fail "$* ended with $got, not $wanted"
}

# says FILE PATTERN, quiet_about FILE PATTERN: the extended regular expression is there, or not.
says() {
    grep -qE -- "$2" "$1" || fail "no \"$2\" in $1"
}
quiet_about() {
    ! grep -qE -- "$2" "$1" || fail "\"$2\" in $1"
}
one_line() {
    [ "$(wc -l <"$1")" -eq 1 ] || fail "$1 has $(wc -l <"$1") lines, not one"
}

# wait_until SECONDS COMMAND...: until it is true.
wait_until() {
    local tries=$(($1 * 20))
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "waited too long for: $*"
        sleep 0.05
    done
}
