"""Runs the code of docs/formats.md: formats_doc.py FORMATS.md DATA.h5 RUN_FOLDER."""

import re
import sys

document, data, run = sys.argv[1:4]
with open(document, encoding="utf-8") as f:
    blocks = re.findall(r"^```python\n(.*?)^```", f.read(), re.MULTILINE | re.DOTALL)
code = "\n".join(blocks)
for name, path in ("DATA", data), ("RUN", run):
    code, found = re.subn(rf'^{name} = "[^"]*"', f"{name} = {path!r}", code, flags=re.MULTILINE)
    assert found == 1, f"{document} names {name} {found} times"
exec(compile(code, document, "exec"), {"__name__": "__main__"})
print(len(blocks), "blocks of code ran")
