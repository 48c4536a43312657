#!/bin/bash
# bare.sh CMAKE BUILD ARCHIVE: makes the archive and uses it in a root file system that has glibc, sh
# and env, and nothing else. No distribution's smallest installation would prove as much: those have
# zlib, libcrypto, libstdc++ and more, and would hide that the archive lacks one.
set -eu
archive=$3
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
skip() {
    echo "SKIPPED: $*"
    exit 77
}

if [ -z "${INSIDE-}" ]; then
    command -v patchelf >/dev/null || skip "patchelf is not installed (scripts/install-packages)"
    "$1" --build "$2" --target bundle
    bytes=$(stat -c %s "$archive")
    echo "$bytes bytes"
    [ "$bytes" -lt 60000000 ] || fail "the archive has $bytes bytes, 60 MB and more"
    enter=(unshare --mount --pid --fork --kill-child)
    [ "$(id -u)" -eq 0 ] || enter=(unshare --map-root-user "${enter[@]:1}")
    why=$("${enter[@]}" mount -t tmpfs bare /tmp 2>&1) || skip "no namespaces to be had here: $why"
    INSIDE=$(mktemp -d)
    export INSIDE
    code=0
    "${enter[@]}" "$0" "$@" || code=$?
    rm -rf --one-file-system "$INSIDE" # what was mounted there went with the namespace
    exit $code
fi

# ---- a bare root
root=$INSIDE/root
home=$(dirname "$(ldd /bin/sh | sed -n 's/.*=> \(.*libc\.so\.6\) .*/\1/p')") # of glibc
mkdir -p "$root/bin" "$root$home" "$root/proc" "$root/sys" "$root/dev/shm" "$root/tmp" "$root/opt"
give() { # PROGRAM [NAME], with the libraries that it names
    cp -L "$1" "$root/bin/${2-$(basename "$1")}"
    ldd "$1" | grep -o '/[^ ]*' | grep -v "^$1" | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}
give /bin/sh sh
give /usr/bin/env
for part in m dl pthread rt resolv util; do
    cp -L "$home/lib$part".so.[0-9] "$root$home/"
done
others=$(find "$root" -name '*.so*' ! -name 'ld-linux-x86-64.so.2' |
    grep -vE '/lib(c|m|dl|pthread|rt|resolv|util)\.so\.[0-9]$' || true)
[ -z "$others" ] || fail "the root is not bare: $others"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
for device in null zero urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done

# ---- the archive there
[ "$(tar -tzf "$archive" | cut -d/ -f1 | sort -u | wc -l)" -eq 1 ] || fail "not one top folder"
[ "$(tar -tzf "$archive" | cut -d/ -f2 | sort -u | xargs)" = "bin lib libexec share" ] ||
    fail "the top folder holds $(tar -tzf "$archive" | cut -d/ -f2 | sort -u | xargs)"
tar -xzf "$archive" -C "$root/opt"
mv "$root/opt"/retort-* "$root/opt/somewhere"
retort=/opt/somewhere/bin/retort
# expect CODE [NAME=VALUE]… COMMAND…: the command ends with that code there; its output is in $output.
output=$INSIDE/output
expect() {
    local wanted=$1 got=0
    shift
    chroot "$root" /bin/env -i PATH=/bin HOME=/tmp "$@" >"$output" 2>&1 </dev/null || got=$?
    cat "$output"
    [ "$got" = "$wanted" ] || fail "code $got in place of $wanted: $*"
}
says() {
    grep -qE -- "$1" "$output" || fail "no \"$1\" in the output"
}

expect 0 $retort devices
says '^cores +[1-9]'
if [ -e "$root/opt/somewhere/libexec/retort/libretort_cuda.so" ]; then
    says '^gpu +none: there is no libcudnn.so.9 where the loader looks, nor in RETORT_CUDA_PATH .not'
else
    says '^gpu +none: there is no libretort_cuda.so in /opt/somewhere/libexec/retort'
fi

expect 0 $retort synth /tmp/pictures --classes 4 --per-class 16 --val-per-class 8 --size 16 --seed 1
expect 0 $retort pack /tmp/pictures /tmp/small.h5
cat >"$root/tmp/recipe.yaml" <<'END'
data: {path: /tmp/small.h5}
teacher: {arch: conv4/4, epochs: 1, batch: 16}
student: {arch: conv4/4, epochs: 1, batch: 16}
run: {stages: [teacher, logits, student], precision: f32}
END
expect 0 $retort run /tmp/recipe.yaml --ranks 2 --threads 1 --out /tmp/run
says '^student, EMA +[0-9]'
says '^2 ranks of 1 thread, cpu, f32'
# What a module of a cluster may name: libraries that are none would be opened before ours.
mkdir "$root/tmp/other"
touch "$root/tmp/other/libmpi.so.40" "$root/tmp/other/libopen-pal.so.40" "$root/tmp/other/libz.so.1"
expect 0 LD_LIBRARY_PATH=/tmp/other OPAL_PREFIX=/tmp/other \
    $retort eval /tmp/run --data /tmp/small.h5 --ranks 2 --threads 1 --json
says '"count":32[,}]'
expect 0 $retort predict /tmp/run /tmp/pictures/val/images/val_0.JPEG
[ "$(grep -c ' % ' "$output")" = 4 ] || fail "predict does not name four classes"

# ---- CUDA's libraries from where Python's wheels have them
[ -e "$root/opt/somewhere/libexec/retort/libretort_cuda.so" ] || exit 0
packages=/opt/venv/lib/python3.11/site-packages
for library in cudnn nccl; do
    path=$(ldd "$2/bin/libretort_cuda.so" | sed -n "s/.*lib$library.so.* => \(.*\) (.*/\1/p")
    mkdir -p "$root$packages/nvidia/$library/lib"
    for file in "$(dirname "$path")/lib$library"*.so.[0-9]; do
        : >"$root$packages/nvidia/$library/lib/$(basename "$file")"
        mount --bind "$(realpath "$file")" "$root$packages/nvidia/$library/lib/$(basename "$file")"
    done
done
found() { # of the last output
    says '^gpu +none: there is no NVIDIA driver on this machine'
    says '^libraries +CUDA [0-9.]+, cuDNN 9[0-9.]+, NCCL 2[0-9.]+$'
    says "^ +$packages/nvidia/cudnn/lib/libcudnn.so.9\$"
    says "^ +$packages/nvidia/nccl/lib/libnccl.so.2\$"
}
expect 0 VIRTUAL_ENV=/opt/venv $retort devices
found
expect 0 RETORT_CUDA_PATH=/nowhere:$packages $retort devices
found
expect 0 LD_LIBRARY_PATH=$packages/nvidia/cudnn/lib:$packages/nvidia/nccl/lib $retort devices
found
expect 0 RETORT_CUDA_PATH=$packages/nvidia/cudnn $retort devices
says "^gpu +none: there is no libnccl.so.2 .* RETORT_CUDA_PATH=$packages/nvidia/cudnn, "
expect 2 VIRTUAL_ENV=/opt/venv $retort run /tmp/recipe.yaml --ranks 1 --device cuda --out /tmp/gpu
says 'error: .*device cuda: there is no NVIDIA driver on this machine'
