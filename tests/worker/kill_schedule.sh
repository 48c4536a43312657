#!/bin/bash
# kill_schedule.sh [KILLS [SEED]]: at seeded moments of a small run, KILLS times (40) in a stage that
# is not finished, its ranks are killed, one of them, mpirun, the launcher, or all at once; every
# other start is on another number of ranks. Each time a run comes to its end it has the bits of
# the one that was left alone, and another begins.
. "$(dirname "$0")/common.sh"
kills=${1:-40} state=${2:-1}
recipe
sed -i 's/shapes.h5/tiny.h5/' recipe.yaml # fewer pictures to evaluate
export LD_PRELOAD="$RETORT_HELPERS/die_at.so" # which flushes nothing: kills lose nothing by it
# What a killed mpirun leaves behind goes with the test's folder.
mkdir mpi
export OMPI_MCA_orte_tmpdir_base="$work/mpi" OMPI_MCA_btl_vader_backing_directory="$work/mpi"
# Adam has two moments, and looking for networks to other machines is half of MPI's start.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
adam='--set student.optimizer.kind=adamw --set student.optimizer.lr=0.002'

# draw N: $drawn is one of 0 … N-1.
draw() {
    state=$(((state * 1103515245 + 12345) % 2147483648))
    drawn=$((state / 65536 % $1))
}
milliseconds() {
    echo $(($(date +%s%N) / 1000000))
}

# shellcheck disable=SC2086 # $adam is several words, here and below
{
    expect 0 run whole 2 $adam
    begin=$(milliseconds)
    expect 0 run again 2 $adam
}
same_bits whole again
span=$(($(milliseconds) - begin)) # of a whole run, its start and end included

counted=0 starts=0 round=1 ranks=2
: >moments
while [ $counted -lt "$kills" ]; do
    starts=$((starts + 1))
    if [ $((starts % 2)) = 0 ]; then
        draw 2
        case $ranks$drawn in
            20 | 40) ranks=1 ;;
            10 | 41) ranks=2 ;;
            *) ranks=4 ;;
        esac
    fi
    draw 10
    case $drawn in
        0 | 1 | 2 | 3) who=all code=137 ;;
        4 | 5 | 6) who=ranks code=4 ;;
        7) who=rank code=4 ;;
        8) who=mpirun code=4 ;;
        9) who=launcher code=137 ;;
    esac
    draw 3
    every=$(echo 0.0001 0.03 1000 | cut -d' ' -f$((drawn + 1))) # checkpoints: each step, some, epochs
    draw $((span / 2))
    # shellcheck disable=SC2086
    start run$round "$ranks" $adam --set run.checkpoint_every_s="$every"
    if "$RETORT_HELPERS/kill_at" -d "$drawn" -w $who run$round '' -1 >moment; then
        ended $code
        [ $code = 137 ] || grep -q 'error: ' "$work/output" || fail "$(cat moment): nothing is said"
        case $(cat moment) in
            *' evaluation '* | *' checkpoint '* | *' exchange '* | *' logits '*) ;;
            *' step -1 '*) continue ;; # in no stage yet
        esac
        counted=$((counted + 1))
        cat moment >>moments
    else
        ended 0
        same_bits whole run$round
        metrics_are_whole run$round
        rm -rf run$round
        round=$((round + 1))
    fi
done
[ ! -d run$round ] || {
    # shellcheck disable=SC2086
    expect 0 run run$round 2 $adam
    same_bits whole run$round
    metrics_are_whole run$round
}

echo "$counted kills in $starts starts of $round runs, at:"
sed 's/^killed //; s/ view.*step [0-9-]*//; s/ step [0-9-]*//' moments | sort | uniq -c | sort -rn
