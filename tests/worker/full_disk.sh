#!/bin/sh
# A disk that fills up while a checkpoint is written: code 5, one line, nothing half-written; with
# space again the run goes on to the same bits. Needs the right to mount; skipped without.
. "$(dirname "$0")/common.sh"
mkdir small
mount -t tmpfs -o size=32m retort-test small 2>/dev/null || exit 77
trap 'cd /; umount "$work/small"; rm -rf "$work"' EXIT
recipe
expect 0 run whole 2 --stages teacher

killed small/run 2 teacher 5
[ -e small/run/teacher/last.h5 ] || killed small/run 2 teacher 12
# All but 16 kB is taken: less than a checkpoint, more than what a start writes.
head -c "$(($(df -k --output=avail small | tail -1) * 1024 - 16384))" /dev/zero >small/filler
expect 5 run small/run 2 --stages teacher
one_error small/run
nothing_half_written small/run
for file in small/run/teacher/*.h5; do
    "$RETORT_HELPERS/weights" "$file" >/dev/null || fail "$file is not whole"
done
# Not even a byte: the start itself is refused.
cat /dev/zero >small/rest 2>/dev/null || true
expect 5 run small/run 2 --stages teacher
one_error small/run
nothing_half_written small/run

rm small/filler small/rest
expect 0 run small/run 2 --stages teacher
same_bits whole small/run teacher
metrics_are_whole small/run
