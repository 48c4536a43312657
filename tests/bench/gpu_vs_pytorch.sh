#!/bin/bash
# bench/gpu_vs_pytorch without a GPU: the table of kept figures, its bounds, and one line that
# refuses. What PyTorch does in it is rehearsed by hand (bench/README.md).
set -u
export PYTHONDONTWRITEBYTECODE=1
python=$1 bench=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(mktemp)
trap 'rm -f "$out"' EXIT

fail() {
    echo "FAILED: $*"
    cat "$out"
    exit 1
}
says() {
    grep -qF -- "$1" "$out" || fail "no \"$1\""
}

"$python" "$bench/gpu_vs_pytorch" --table "$here/kept.json" >"$out" 2>&1 || fail "no table"
says '2026-01-02, Some GPU, 150 GB, compute capability 9.0; CUDA 13.0, cuDNN 9.19.0, NCCL 2.28.9, driver for CUDA 13.0; PyTorch 2.15.0'
says 'conv12, batch 50: images/s with data'
says '  bf16 retort                              303000 ( 9.9 %)    320000  20.2 %'
says '  bf16 PyTorch compiled graph              100000 ( 1.0 %)    101000   6.7 %'
says '  bounds: unfused memory 800000, fused memory 1500000, arithmetic 2600000'
says '  bf16: 3.00 times PyTorch'"'"'s best (rounds: 3.00, 3.30, 3.00)'

# Counted: three passes over what a layer reads, three over what it writes, channels by eights.
(cd "$bench" && "$python" -c '
from compare import layer_counts
for arch in "conv12", "conv4":
    counts = list(layer_counts(arch, 8, 3))
    print(arch, sum(f for f, _ in counts), sum(v for _, v in counts))') >"$out" 2>&1 || fail "no counts"
says "conv12 291962880 1432576"

ldconfig -p | grep -q libcuda.so.1 && exit 0 # there may be a GPU
"$python" "$bench/gpu_vs_pytorch" >"$out" 2>&1
[ $? = 77 ] || fail "not code 77"
[ "$(wc -l <"$out")" = 1 ] || fail "not one line"
says 'gpu_vs_pytorch: no GPU to measure on: there is no NVIDIA driver on this machine'
