#!/bin/bash
# A run folder: written at the first start, held to on resume, moved aside by --fresh, owned by one.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"
export FAKE=summary
run=("$retort" run recipe.yaml --ranks 2 --threads 1)

expect 0 "${run[@]}"
says out '^teacher +40\.32 +66\.11 +2\.525 +40\.50 +512  26 min 00 s$'
says out '^student, EMA +41\.21 +67\.01 +2\.490 +- +-  -$'
quiet_about out '^baseline'
says out '^2 ranks of 1 thread, cpu, f32, Fake 9000$'
says out '^run folder: runs/recipe$'
says runs/recipe/recipe.yaml 'microbatches: 2'
[ ! -e runs/recipe/owner.json ] || fail "the owner is still there"
expect 0 "$retort" run runs/recipe/recipe.yaml --print-recipe --ranks 2
cmp out runs/recipe/recipe.yaml || fail "recipe.yaml is not the resolved recipe"

# Resume: on fewer ranks by the same recipe; refused with another, or with too many ranks.
expect 0 "$retort" run recipe.yaml --ranks 1
says out 'going on in runs/recipe with 1 rank of 1 thread$'
says runs/recipe/recipe.yaml 'ranks: 2'
expect 0 "$retort" run recipe.yaml
says out 'with 2 ranks'
expect 2 "$retort" run recipe.yaml --set run.seed=9 --set teacher.optimizer.lr=0.5
says err 'run\.seed: 1 .*9'
says err 'teacher\.optimizer\.lr: 0\.05 .*0\.5'
says err '--fresh .*--out '
expect 2 "$retort" run recipe.yaml --ranks 3
says err '2 micro-batches'
expect 0 "$retort" run recipe.yaml --set run.log_every_s=3
says runs/recipe/recipe.yaml 'log_every_s: 3'

expect 0 "$retort" run recipe.yaml --ranks 1 --set run.seed=9 --fresh
says runs/recipe/recipe.yaml 'seed: 9'
says runs/recipe.old-1/recipe.yaml 'seed: 1'
expect 0 "$retort" run recipe.yaml --ranks 1 --set run.seed=10 --fresh
says runs/recipe.old-2/recipe.yaml 'seed: 9'

# A first start that the ranks refuse leaves no recipe that would bind the next one.
FAKE=code FAKE_CODE=3 expect 3 "${run[@]}" --out refused
[ ! -e refused/recipe.yaml ] || fail "a refused start left its recipe"
[ ! -e refused/owner.json ] || fail "a refused start left its owner"

# In use: by a living process here, or by a fresh beat from elsewhere.
here="$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/pid)"
own() { # MACHINE PID TICKS AGE_S
    printf '{"host": "node7", "machine": "%s", "pid": %d, "start_ticks": %d, "job": "77", "started": 1}' \
        "$1" "$2" "$3" >runs/recipe/owner.json
    touch -d "-$4 seconds" runs/recipe/owner.json
}
ticks=$(sed 's/.*) //' /proc/$$/stat | cut -d' ' -f20)
own "$here" $$ "$ticks" 1000
expect 6 "$retort" run recipe.yaml --set run.seed=10
one_line err
says err "runs/recipe is in use by a living run \(host node7, pid $$, job 77\)"
expect 6 "$retort" run recipe.yaml --fresh
[ -e runs/recipe/owner.json ] || fail "--fresh moved the folder of a living run"
expect 0 "$retort" status runs/recipe
says out "^runs/recipe: running on .* \(pid $$, job 77\)"
says out 'teacher 40\.32 %, student_ema 41\.21 %'
own elsewhere 1 1 50
expect 6 "$retort" run recipe.yaml --set run.seed=10
expect 0 "$retort" stop runs/recipe
[ -e runs/recipe/stop-requested ] || fail "stop left no request"
own elsewhere 1 1 70
expect 0 "$retort" run recipe.yaml --set run.seed=10
[ ! -e runs/recipe/stop-requested ] || fail "an old request would stop the new run"
own "$here" $$ $((ticks + 1)) 0 # the pid belongs to another process by now
expect 0 "$retort" run recipe.yaml --set run.seed=10
expect 0 "$retort" status
says out '^runs/recipe: not running$'

# What the files say: of the stage that is under way, and of what happened to it.
cat >runs/recipe/metrics.jsonl <<'END'
{"event":"epoch","stage":"teacher","epoch":7,"step":160,"loss":1.5,"top1":0.5,"images_per_s":9}
{"event":"epoch","stage":"student","epoch":0,"step":20,"loss":3.5,"images_per_s":400.0,"top1":0.125,"top5":0.5,"ema_top1":0.25,"epoch_steps":20}
{"event":"restart","time":1,"restart":1,"phase":"student","step":21,"cause":"rank 1 on node7 was ended"}
{"event":"requeue","time":2,"slurm_restart_count":1,"job":"77"}
{"event":"train","stage":"student","epoch":1,"step":24,"loss":3.25,"images_per_s":500.0,"epoch_steps":20}
{"event":"tr
END
mkdir -p runs/recipe/student
: >runs/recipe/student/ckpt-000000020.h5
touch -d '-100 seconds' runs/recipe/student/ckpt-000000020.h5
expect 0 "$retort" status runs/recipe
says out '^  student +epoch 2 of 8, step 24 of 160, loss 3\.250, images/s 500$'
says out '^  to go +13\.6 s of the student$' # 136 steps of 50 pictures
says out '^  accuracy +top-1 12\.50 %, top-5 50\.00 %, EMA top-1 25\.00 %$'
says out "^  restarts +after a rank's death: 1, by Slurm: 1$"
says out '^  the last +at student step 21: rank 1 on node7 was ended$'
says out '^  checkpoint +runs/recipe/student/ckpt-000000020\.h5, 1 min 4[0-9] s ago$'
expect 0 "$retort" status --all runs --json
python3 - <<'END' || fail "status --json"
import json
one, = [run for run in json.load(open("out")) if run["folder"] == "runs/recipe"]
assert one["state"] == "stopped" and one["done"] is False, one
assert (one["stage"], one["step"], one["steps"], one["restarts"], one["requeues"]) == \
    ("student", 24, 160, 1, 1), one
assert abs(one["time_left_s"] - 13.6) < 1e-6 and one["results"]["teacher"]["top1"] == 0.4032
END
expect 2 "$retort" status runs/recipe --all runs
rm -r runs/recipe/metrics.jsonl runs/recipe/student
expect 0 "$retort" stop runs/recipe
says out 'not running'

mkdir closed
: >closed/file
expect 5 "${run[@]}" --out closed/file/run
says err 'closed/file'
