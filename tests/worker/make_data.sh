#!/bin/sh
# make_data.sh FOLDER: the data sets that the worker's tests train on, drawn and packed once.
set -eu
retort=$RETORT_BIN/retort
rm -rf "$1"
mkdir -p "$1"
for set in "shapes 1" "other 2"; do
    name=${set% *} seed=${set#* }
    "$retort" synth "$1/$name" --classes 4 --per-class 40 --val-per-class 75 --size 32 --seed "$seed"
    "$retort" pack "$1/$name" "$1/$name.h5"
    rm -r "$1/$name"
done
