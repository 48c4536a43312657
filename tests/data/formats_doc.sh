#!/bin/sh
# The code of docs/formats.md on files that the programs write: formats_doc.sh RETORT SOURCE_FOLDER.
# Skipped where python3 lacks h5py or xxhash.
set -eu
retort=$1
source=$2
python=
for candidate in python3 /usr/bin/python3; do
    "$candidate" -c 'import h5py, numpy, xxhash' 2>/dev/null && python=$candidate && break
done
[ "$python" ] || { echo "skipped: no python3 with h5py and xxhash"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/recipe.yaml" << 'END'
data: {path: data.h5}
teacher: {arch: conv4/4, epochs: 1, batch: 20}
student: {arch: conv4/4, epochs: 1, batch: 20}
logits: {views: 2}
END
cd "$folder"
"$retort" synth pictures --classes 3 --per-class 20 --val-per-class 4
"$retort" pack pictures data.h5
"$retort" run recipe.yaml --ranks 2 --threads 1 --device cpu --out run
"$retort" eval run --ranks 2 --threads 1 --device cpu --logits run/val-logits.h5
"$python" "$source/tests/data/formats_doc.py" "$source/docs/formats.md" data.h5 run
