# shellcheck shell=bash
# What the tests under a real Slurm share. Sourced; CTest sets what tests/worker/common.sh lists.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for program in ${INSIDE_NEEDS-slurmctld slurmd munged ip}; do
    if ! command -v "$program" >/dev/null; then
        echo "SKIPPED: $program is not installed (scripts/install-packages --with-slurm)"
        exit 77
    fi
done
[ -n "${INSIDE-}" ] || INSIDE=yes exec "$here/inside" "$0" "$@"

. "$here/../worker/common.sh"
. "$here/cluster.bash"
set +e
PATH=$RETORT_BIN:$PATH
# Many ranks on few cores: who waits lets others go first.
export OMPI_MCA_mpi_yield_when_idle=1

# passed WORD...: how far the test is, and when.
passed() {
    echo "$SECONDS s: $*"
}
fail() {
    echo "FAILED after $SECONDS s: $*"
    [ ! -e "$state/slurm.conf" ] || scontrol -o show job
    tail -n 20 "$state"/*.log ./*/slurm-*.log ./*/mpirun.log ./*.log 2>/dev/null
    exit 1
} >&2

# wait_until SECONDS COMMAND...: until it is true.
wait_until() {
    local seconds=$1 end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited $seconds s for: $*"
        sleep 0.1
    done
}
said() { # FILE PATTERN
    grep -qsE -- "$2" "$1"
}
says() {
    said "$@" || fail "no \"$2\" in $1: $(cat "$1" 2>&1)"
}
job_state() {
    scontrol -o show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'
}
in_state() { # JOB STATE...
    local now job=$1
    now=$(job_state "$job")
    shift
    [[ " $* " == *" $now "* ]]
}
# job_ends JOB STATE [SECONDS]: the state it has at its end.
job_ends() {
    wait_until "${3:-60}" in_state "$1" COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL PREEMPTED
    in_state "$1" "$2" || fail "job $1 is $(job_state "$1"), not $2: $(cat ./*/slurm-"$1"*.log slurm-"$1"*.log 2>/dev/null)"
}
restarts() {
    scontrol -o show job "$1" | sed -n 's/.* Restarts=\([0-9]*\).*/\1/p'
}
# submitted OPTION...: retort submit of the test's recipe; the last job's number is in $job.
submitted() {
    retort submit recipe.yaml "$@" >"$work/output" 2>&1 || fail "submit: $(cat "$work/output")"
    job=$(sed -n 's/^job \([0-9]*\):.*/\1/p' "$work/output" | tail -1)
    [ -n "$job" ] || fail "submit named no job: $(cat "$work/output")"
}
# reached FOLDER PHASE STEP
reached() {
    wait_until 40 test -e "$1/ranks/0.state"
    "$RETORT_HELPERS/kill_at" -n "$@" || fail "$1 never came to $2 $3"
}
# slurm_recipe: the teacher, its logits and the student, 4 steps an epoch; each trains for so long that who looks for
# one of its first steps (`paused`) still finds it under way on a machine that has other things to do.
slurm_recipe() {
    cat >recipe.yaml <<END
data: {path: $RETORT_DATA/tiny.h5}
teacher: {arch: conv4/4, epochs: 15, batch: 40, optimizer: {lr: 0.02}}
student: {arch: conv4/4, epochs: 15, batch: 40, optimizer: {lr: 0.02}}
logits: {views: 1}
run: {threads: 1, precision: f32, checkpoint_every_s: 1000, log_every_s: 0.01}
END
}
# paused NODE FOLDER PHASE STEP: rank 0, which runs on that node, stands still there or later: in step $step. Told to
# stop, the ranks do so behind this step or one of the next two: it may just have voted to go on, and so may the others.
paused() {
    local node=$1
    shift
    wait_until 60 test -e "$1/ranks/0.state"
    host_enter "$node" "$RETORT_HELPERS/kill_at" -s 19 -w first "$(realpath "$1")" "${@:2}" >"$work/paused" 2>&1 ||
        fail "$1 never came to $2 $3: $(cat "$work/paused" ./*/slurm-*.log)"
    step=$(sed -n 's/.* step \([0-9]*\) of .*/\1/p' "$work/paused")
}
pid_of() { # FOLDER: of rank 0, as its node counts
    sed -n 's/^pid *\([0-9]*\).*/\1/p' "$1/ranks/0.state"
}
told() { # NODE FOLDER: USR1 waits for the rank that stands still
    local pending
    pending=$(host_enter "$1" sed -n 's/^ShdPnd:\s*//p' "/proc/$(pid_of "$2")/status")
    (((16#$pending >> 9) & 1))
}
resumed() { # NODE FOLDER
    host_enter "$1" kill -CONT "$(pid_of "$2")"
}
came_back() { # JOB TIMES
    local job=$1 times=$2
    wait_until 60 eval '[ "$(restarts $job)" = $times ]'
    wait_until 60 in_state "$job" RUNNING COMPLETED FAILED
}
job_gone() { # JOB: no node is busy with it any more
    [ -z "$(squeue -h -t all -j "$1" -o %T | grep -v -e CANCELLED -e COMPLETED)" ]
}
