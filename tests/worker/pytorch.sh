#!/bin/sh
# docs/pytorch.md, run as it stands, with both kinds of network on either side: pytorch.sh PYTHON
# PYTORCH.md. Skipped where that Python has no PyTorch.
here=$(dirname "$0")
python=$1 document=$2
"$python" "$here/pytorch_doc.py" || exit $?
. "$here/common.sh"
PATH=$RETORT_BIN:$PATH
ln -s "$RETORT_DATA/shapes.h5" tiny-imagenet.h5

# The student is what a run folder stands for, its teacher what a checkpoint of its own.
recipe
expect 0 run runs/report 2 --set student.norm=none --set teacher.epochs=1 --set student.epochs=1
"$python" "$here/pytorch_doc.py" "$document" || fail "the student's weights"
mkdir teacher
ln -s ../runs/report/teacher/last.h5 teacher/teacher.h5
ln -s "$RETORT_DATA/shapes.h5" teacher/tiny-imagenet.h5
sed 's#runs/report#teacher.h5#; s#^retort eval teacher.h5#& --data tiny-imagenet.h5#' \
    "$document" >teacher/pytorch.md
cd teacher
"$python" "$here/pytorch_doc.py" pytorch.md || fail "the teacher's weights"
