#!/bin/bash
# retort report: one page that needs nothing beside it and holds the numbers of the folders.
# shellcheck source=tests/launcher/lib.sh
. "$(dirname "$0")/lib.sh"
export FAKE=summary

for seed in 1 2; do
    expect 0 "$retort" run recipe.yaml --ranks 1 --out "runs/<$seed>" --set run.seed=$seed
    cat >"runs/<$seed>/metrics.jsonl" <<END
{"event":"train","stage":"teacher","epoch":0,"step":10,"loss":5.0,"lr":0.01,"images_per_s":400.0,"epoch_steps":20}
{"event":"epoch","stage":"teacher","epoch":0,"step":20,"loss":4.0,"val_loss":3.5,"top1":0.1$seed,"top5":0.5,"ema_top1":0.25,"ema_loss":3.25,"train_top1":0.2,"images_per_s":401.0,"epoch_steps":20}
{"event":"restart","time":1,"restart":1,"phase":"teacher","step":21,"cause":"rank 1 on <node> was ended"}
{"event":"epoch","stage":"teacher","epoch":1,"step":40,"loss":3.0,"val_loss":2.5,"top1":0.3,"top5":0.6,"ema_top1":0.35,"ema_loss":2.25,"train_top1":0.3,"images_per_s":402.0,"epoch_steps":20}
END
done

expect 3 "$retort" report runs/nowhere
says err 'runs/nowhere is no run folder'
[ ! -e report.html ] || fail "a page of nothing"
expect 0 "$retort" report "runs/<1>"
says out '^wrote report\.html$'
expect 0 "$retort" report "runs/<1>" "runs/<2>" --out both.html

cat >check.py <<'END'
"""The page is well-formed, asks for nothing from elsewhere, and holds what the folders say."""
import sys
from html.parser import HTMLParser

VOID = {"meta", "circle", "line", "polyline"}

class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.cells, self.curves, self.circles = [], [], [], 0
    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes) if tag in VOID else self.open.append(tag)
        for name, value in attributes:
            assert name not in ("src", "href", "onload"), (tag, name)
            assert "http" not in (value or ""), (tag, value)
    def handle_startendtag(self, tag, attributes):
        if tag == "polyline":
            points = dict(attributes)["points"].split()
            self.curves.append([tuple(map(float, p.split(","))) for p in points])
        if tag == "circle" and "stroke" not in dict(attributes):
            self.circles += 1
    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, tag
    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th", "h1", "h2", "p"):
            self.cells.append(data)

name, runs = sys.argv[1], int(sys.argv[2])
text = open(name, encoding="utf-8").read()
page = Page()
page.feed(text)
assert not page.open, page.open
for wanted in ["40.32 %", "41.21 %", "2.525", "26 min 00 s", "11.00 %", "35.00 %"]:
    assert any(wanted in cell for cell in page.cells), wanted
assert any("rank 1 on <node> was ended" in cell for cell in page.cells)
assert "url(" not in text and "@import" not in text and "<script" not in text
assert ("run.seed" in page.cells) == (runs > 1)
# Loss and top-1 have three curves each, without training's where runs are compared; rate and speed one.
assert len(page.curves) == (8 if runs == 1 else 6 * runs), len(page.curves)
# Validation loss 3.5 and 2.5 after epochs 1 and 2: over the axes' width, and falling.
validation = page.curves[1 if runs == 1 else 0]
(x1, y1), (x2, y2) = validation
assert abs((x2 - 56) - 2 * (x1 - 56)) < 0.2 and y2 > y1, validation
END
python3 check.py report.html 1 || fail "report.html: $(cat report.html)"
python3 check.py both.html 2 || fail "both.html"
grep -q 'runs/&lt;1&gt;' both.html || fail "a name is not escaped"

# A stage that is not finished is told by its last epoch.
rm "runs/<2>/summary.json"
expect 0 "$retort" report "runs/<2>" --out unfinished.html
says unfinished.html '<td>teacher</td><td>30\.00 %</td><td>60\.00 %</td><td>2\.500</td>'
says unfinished.html '<td>teacher, EMA</td><td>35\.00 %</td>'
says unfinished.html '<td>not done</td>'

# A page is there whole or not at all.
expect 5 "$retort" report "runs/<1>" --out nowhere/page.html
