#!/bin/bash
# How ranks end, and what the user sees of it: the code, one line, no chatter, nothing left behind.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"
run=("$retort" run recipe.yaml --ranks 2 --threads 1)
chatter='-----|Primary job|mpirun noticed|PMIX|ORTE'

for code in 1 3 8; do
    FAKE=code FAKE_CODE=$code expect $code "${run[@]}"
    one_line err
    says err '^\[rank 1/2 host\] error: fake: something is wrong$'
done
says runs/recipe/mpirun.log '^Primary job .*terminated'
FAKE=silent FAKE_CODE=75 expect 75 "${run[@]}"
says out 'stopped after a checkpoint'
quiet_about err .
FAKE=silent FAKE_CODE=9 expect 4 "${run[@]}"
one_line err
says err 'rank [01] ended with code 9 and did not say why; all it said is in runs/recipe/mpirun\.log'

FAKE=killed expect 4 "${run[@]}"
one_line err
says err "^error: .*rank 1 on $(hostname) was ended by signal 9 \(Killed"
quiet_about err "$chatter"

# mpirun ended from outside: which signal it was when it could not tell, and that it was one else.
ready() {
    [ -e ready.0 ] && [ -e ready.1 ]
}
for signal in TERM KILL; do
    rm -f ready.*
    FAKE=stoppable "${run[@]}" >out 2>err </dev/null &
    launcher=$!
    wait_until 20 ready
    kill -$signal "$(cat /proc/$launcher/task/$launcher/children)"
    code=0
    wait $launcher || code=$?
    [ $code -eq 4 ] || fail "code $code in place of 4 when mpirun got $signal"
    one_line err
    quiet_about err "$chatter"
    case $signal in
        TERM) says err 'mpirun ended the ranks with code 1 .* when INT, TERM or HUP is sent' ;;
        KILL) says err 'mpirun was ended by signal 9 \(Killed.*and the ranks with it' ;;
    esac
done

# What mpirun itself refuses is said in one line too.
FAKE="done" expect 4 "$retort" run recipe.yaml --hosts "localhost:1" --ranks 2 --out slots
one_line err
says err 'mpirun says: .*slots'
# So is what it ends itself for, where other hosts cannot be reached for want of ssh.
OMPI_MCA_plm_rsh_agent=nothing FAKE="done" expect 4 "$retort" run recipe.yaml --hosts "elsewhere:2" --out reach
one_line err
says err 'mpirun says: .*plm_rsh_agent'
expect 1 env PATH=/nowhere "$retort" run recipe.yaml --ranks 1 --out lost
says err 'cannot start mpirun'

# eval and bench hand their words to the rank.
mkdir -p runs/done/teacher
cp data.h5 runs/done/teacher/last.h5
cp recipe.yaml runs/done/
FAKE=words expect 0 "$retort" eval runs/done --ranks 1 --threads 3 --weights ema --json
[ "$(cat out)" = '[eval][runs/done/teacher/last.h5][data.h5][ema][val][1][cpu][3][]' ] ||
    fail "eval's words"
expect 3 "$retort" eval runs/done --stage student
says err 'student/last\.h5'
FAKE=words expect 0 "$retort" bench --ranks 1 --threads 2 --batch 30 --microbatches 3 --seconds 4
[ "$(cat out)" = '[bench][conv12][30][3][2][4][0][cpu][batch][]' ] || fail "bench's words"

# A process that a rank left behind is ended, and the run's own code stays.
FAKE=orphan expect 0 "$retort" run recipe.yaml --ranks 1 --out orphaned
says err '1 process of the run had to be killed'
! kill -0 "$(cat orphan.pid)" 2>/dev/null || fail "the orphan lives"
