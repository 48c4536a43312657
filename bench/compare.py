"""What the comparisons with PyTorch share: building retort, installing PyTorch, measuring in turn,
counting operations and bytes, tables and files. CPU ranks: vs_pytorch; GPUs: gpu_vs_pytorch."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
WORTH_REPEATING = 0.8
HOPELESS = 0.2  # of the best: its precision is emulated
LIMIT_S = 150  # of one measurement, torch.compile's minute included
SIZE = 64
CONVS = {
    "conv4": [(12, 1), (24, 2), (48, 2), (96, 2)],
    "conv12": [(12, 1), (12, 1), (24, 2), (24, 1), (48, 2), (48, 1),
               (96, 2), (96, 1), (192, 2), (192, 1), (192, 1), (192, 1)],
}
# PyTorch loses up to a third to page faults without; retort sets them for its own ranks.
TUNED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=34359738368:"
                           "glibc.malloc.trim_threshold=34359738368",
         "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def note(text):
    print(text, file=sys.stderr, flush=True)


def printed(command, limit_s=None):
    """What a command prints; its words, should it fail. TimeoutExpired behind the limit."""
    with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env={**os.environ, **TUNED},
                          start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # its processes, too
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {err[-2000:]}")
    return out


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


# ---- set-up


def pytorch(environment):
    """The Python of an environment that has PyTorch."""
    python = environment / "bin" / "python"
    if not python.exists():
        note(f"installing PyTorch by pip into {environment}")
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy"], check=True)
    return python


def pytorch_version(python):
    return printed([python, "-c", "import torch; print(torch.__version__)"]).strip()


def retort():
    if not (ROOT / "build/release/build.ninja").exists():
        subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--build", "--preset", "release"], cwd=ROOT, check=True,
                   stdout=sys.stderr)
    return ROOT / "build/release/bin/retort"


# ---- what a training step comes to


def layer_counts(arch, channel_unit=1, output_passes=8):
    """(operations, values moved) of each convolution of a training step, by picture. Counted as
    direct convolution, all three passes but the first layer's data gradient. Values: pictures are
    read for the output, for the weights' gradient, and their gradient is written; outputs take
    `output_passes`: 8 where they are written, read and written by BatchNorm and ReLU, the same
    backward, and read by two passes; 3 where all that is fused into the products. In memory,
    channels come in multiples of `channel_unit`."""
    inputs, size = 3, SIZE

    def stored(channels):
        return -(-channels // channel_unit) * channel_unit

    for i, (channels, stride) in enumerate(CONVS[arch]):
        out = size // stride
        passes = 2 if i == 0 else 3
        yield (passes * 2 * 9 * inputs * channels * out * out,
               passes * stored(inputs) * size * size + output_passes * stored(channels) * out * out)
        inputs, size = channels, out


# ---- measuring


class Setting:
    """One way to train, and what its runs reached."""

    def __init__(self, name, precision, command):
        self.name, self.precision, self.command = name, precision, command
        self.runs = []

    def measure(self):
        self.runs.append(last_json(printed(self.command, LIMIT_S)))

    def median(self, key="images_per_s"):
        return statistics.median(run[key] for run in self.runs)

    def spread(self):
        values = [run["images_per_s"] for run in self.runs]
        return (max(values) - min(values)) / self.median()

    def as_json(self):
        return {"name": self.name, "precision": self.precision, "runs": self.runs}


def best(settings, precision=None):
    """The fastest of them, of one precision or of any; None of none."""
    chosen = [s for s in settings if s.runs and precision in (None, s.precision)]
    return max(chosen, key=Setting.median, default=None)


def measure_all(retorts, peers, rounds, keep_all, hopeless_share=HOPELESS):
    """Runs all in turn, round after round; takes out of `peers` what fails or is far behind."""
    hopeless = set()  # precisions
    for r in range(rounds):
        for s in retorts + peers[:]:
            if s in peers and s.precision in hopeless:
                peers.remove(s)
                continue
            try:
                s.measure()
                note(f"round {r + 1}: {s.runs[-1]['images_per_s']:6.0f} images/s  "
                     f"{s.precision} {s.name}")
                if s.median() < hopeless_share * best(retorts + peers).median():
                    hopeless.add(s.precision)
            except subprocess.TimeoutExpired:
                if s in retorts:
                    raise
                note(f"left out: {s.precision} {s.name}: not done in {LIMIT_S} s")
                if best(peers, s.precision) is None:
                    hopeless.add(s.precision)
                peers.remove(s)
            except (RuntimeError, ValueError, IndexError) as failed:
                if s in retorts:
                    raise
                note(f"left out: {s.precision} {s.name}: {failed}")
                peers.remove(s)
        if r == 0 and not keep_all:
            peers[:] = [s for s in peers
                        if s.median() >= WORTH_REPEATING * best(peers, s.precision).median()]


def ratios(retorts, peers):
    """Ours over PyTorch's best, by precision and over all: the median of the rounds' ratios, and
    a line for the table."""
    values, lines = {}, []
    for precision in sorted({s.precision for s in retorts + peers}, reverse=True) + [None]:
        mine, peer = best(retorts, precision), best(peers, precision)
        if not mine or not peer:
            continue
        name = precision or "any precision"
        rounds = [a["images_per_s"] / b["images_per_s"] for a, b in zip(mine.runs, peer.runs)]
        values[name] = statistics.median(rounds)
        lines.append(f"  {name}: {values[name]:.2f} times PyTorch's best (rounds: "
                     f"{', '.join(f'{r:.2f}' for r in rounds)})")
    return values, lines


def keep(result, kind, machine):
    """Writes the JSON to results/."""
    name = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    out = HERE / "results" / f"{kind}-{name}-{result['date']}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"kept in {out.relative_to(ROOT)}")
