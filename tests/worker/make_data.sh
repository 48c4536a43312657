#!/bin/sh
# make_data.sh FOLDER: the data sets that the worker's tests train on, drawn and packed once.
set -eu
retort=$RETORT_BIN/retort
rm -rf "$1"
mkdir -p "$1"
for set in "shapes 1 75" "other 2 75" "tiny 1 10"; do
    # shellcheck disable=SC2086 # several words
    set -- "$1" $set
    name=$2
    "$retort" synth "$1/$name" --classes 4 --per-class 40 --val-per-class "$4" --size 32 --seed "$3"
    "$retort" pack "$1/$name" "$1/$name.h5"
    rm -r "$1/$name"
done
