"""Runs docs/pytorch.md in the current folder: pytorch_doc.py PYTORCH.md. Exit 77 without PyTorch."""

import re
import subprocess
import sys

try:
    import h5py  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
if len(sys.argv) == 1:
    sys.exit(0)  # all is there

torch.set_num_threads(1)
with open(sys.argv[1], encoding="utf-8") as f:
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", f.read(), re.MULTILINE | re.DOTALL)
names = {"__name__": "__main__"}
for language, code in blocks:
    if language == "sh":
        subprocess.run(["sh", "-euxc", code], check=True)
    else:
        exec(compile(code, sys.argv[1], "exec"), names)
print(len(blocks), "blocks of code ran")
