#!/usr/bin/env python3
"""Makes tests/golden/conv4.h5 and conv12.h5: what PyTorch computes for narrow networks; and
conv4-batch.safetensors, …: the state_dict() that each of them begins with, in f32.

    tests/golden/make.py           writes the files beside itself
    tests/golden/make.py --check   compares with them instead; exit 77 without PyTorch, h5py or
                                   safetensors

All is computed in double and kept in double, but the initial weights, which f32 holds exactly.
Vectors over all parameters lie as the arena does: parameters in layer order, then the running
means and variances. README.md in this folder shows the files.
"""

import argparse
import copy
import pathlib
import sys
import tempfile

try:
    import h5py
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn
    from torch.nn import functional as F
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
MEAN, DEVIATION = (0.48, 0.45, 0.40), (0.28, 0.27, 0.28)
COUNTED = 1234567890123  # batches that a BatchNorm in the safetensors files has seen
BATCH, STEPS, SAMPLES = 8, 10, 24  # step s trains on samples 8 s … 8 s + 7, modulo 24
EMA_DECAY = 0.5  # reached at update 8: the warm-up and what follows are both in ten steps
KINK = 2e-6  # how far from zero every ReLU's argument is in all steps, against its layer's rms

# Channels and strides of the convolutions, with the narrow variant's divisor of all channels.
CONV4 = dict(divisor=6, height=24, width=40, classes=10,
             channels=[12, 24, 48, 96], strides=[1, 2, 2, 2])
CONV12 = dict(divisor=12, height=17, width=17, classes=7,
              channels=[12, 12, 24, 24, 48, 48, 96, 96, 192, 192, 192, 192],
              strides=[1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1])
ARCHS = {"conv4": CONV4, "conv12": CONV12}

LOSSES = {
    "ce": dict(alpha=0.0, temperature=1.0, smoothing=0.0, elementwise=0),
    "smooth": dict(alpha=0.0, temperature=1.0, smoothing=0.1, elementwise=0),
    "kd": dict(alpha=0.3, temperature=3.0, smoothing=0.0, elementwise=0),
    "kd_smooth": dict(alpha=0.3, temperature=3.0, smoothing=0.1, elementwise=0),
    "elementwise": dict(alpha=0.3, temperature=3.0, smoothing=0.0, elementwise=1),
}
SGD = dict(adamw=0, lr=0.02, momentum=0.9, weight_decay=0.02)
# With a tiny epsilon AdamW's first step is the gradient's sign: of f32's rounding, where there is
# nothing else. So large a one shows where it stands in the formula, too.
ADAMW = dict(adamw=1, lr=0.002, beta1=0.9, beta2=0.98, epsilon=1e-3, weight_decay=0.5)
# What is trained: the loss, the optimizer, and the sizes of the micro-batches.
RUNS = {
    "sgd": ("ce", SGD, [8]),
    "sgd_kd": ("kd_smooth", SGD, [8]),
    "adamw": ("smooth", ADAMW, [8]),
    "adamw_kd": ("kd", ADAMW, [8]),
    "microbatches": ("kd", SGD, [5, 3]),
}


class Network(nn.Module):
    """3x3 convolutions, each with norm and ReLU; one average pool, FC + ReLU, output."""

    kink = float("inf")  # the smallest |argument| of a ReLU so far, against its layer's rms

    def __init__(self, arch, norm):
        super().__init__()
        channels = 3
        self.stages = []
        for i, (out, stride) in enumerate(zip(arch["channels"], arch["strides"]), 1):
            out //= arch["divisor"]
            conv = nn.Conv2d(channels, out, 3, stride, padding=1, bias=not norm)
            self.add_module(f"conv{i}", conv)
            self.stages.append([conv])
            if norm:
                self.add_module(f"norm{i}", nn.BatchNorm2d(out))
                self.stages[-1].append(self.get_submodule(f"norm{i}"))
            channels = out
        pooled = self.pooled(arch)
        self.fc1 = nn.Linear(channels * pooled, 512 // arch["divisor"])
        self.fc2 = nn.Linear(512 // arch["divisor"], arch["classes"])

    @staticmethod
    def pooled(arch):
        height, width = arch["height"], arch["width"]
        for stride in arch["strides"]:
            height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
        return (height // 2) * (width // 2)

    def activate(self, x):
        with torch.no_grad():
            Network.kink = min(Network.kink, (x.abs().min() / x.square().mean().sqrt()).item())
        return F.relu(x)

    def forward(self, x):
        for stage in self.stages:
            for layer in stage:
                x = layer(x)
            x = self.activate(x)
        x = F.avg_pool2d(x, 2).flatten(1)
        return self.fc2(self.activate(self.fc1(x)))


def arena(network):
    """(name, tensor) of every parameter, then of every running statistic."""
    statistics = [(n, b) for n, b in network.named_buffers() if b.is_floating_point()]
    return list(network.named_parameters()) + statistics


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).numpy().copy()


def flat_arena(network):
    return flat(t for _, t in arena(network))


def statistics(network):
    return [t for _, t in arena(network) if not isinstance(t, nn.Parameter)]


def initialise(network, random):
    """He's normal weights; gammas, betas, biases and statistics that all matter. f32 values.
    Most units are open: a channel that is almost always shut has next to no variance, and dividing
    by that makes of f32's rounding what it likes."""
    with torch.no_grad():
        for name, t in arena(network):
            noise = random.standard_normal(tuple(t.shape))
            if t.dim() > 1:
                value = noise * np.sqrt(2.0 / np.prod(t.shape[1:]))
            elif name.endswith("running_var"):
                value = 0.5 + noise**2
            elif name.startswith("norm") and name.endswith("weight"):
                value = 0.8 + 0.2 * noise
            elif name.startswith("norm") and name.endswith("bias"):
                value = 1.0 + 0.2 * noise
            elif name.endswith("bias"):
                value = 0.5 + 0.2 * noise
            else:
                value = 0.2 * noise
            t.copy_(torch.from_numpy(np.float32(value).astype(np.float64)))


def make_data(arch, random):
    """Pictures of coarse squares under noise, labels, and a teacher's logits that f16 holds."""
    height, width = arch["height"], arch["width"]
    coarse = random.randint(0, 200, (SAMPLES, (height + 5) // 6, (width + 5) // 6, 3))
    fine = random.randint(0, 56, (SAMPLES, height, width, 3))
    squares = coarse.repeat(6, axis=1).repeat(6, axis=2)[:, :height, :width]
    teacher = 3.0 * random.standard_normal((SAMPLES, arch["classes"]))
    return {"pixels": (squares + fine).astype(np.uint8),
            "labels": random.randint(0, arch["classes"], SAMPLES).astype(np.int32),
            "teacher": np.float16(teacher).astype(np.float64)}


def normalised(data):
    values = (data["pixels"] / 255.0 - np.array(MEAN)) / np.array(DEVIATION)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy())


def losses(logits, data, rows, spec):
    """Total, cross-entropy and T² KL, each a mean over the rows."""
    labels = torch.from_numpy(data["labels"][rows]).long()
    teacher = torch.from_numpy(data["teacher"][rows])
    ce = F.cross_entropy(logits, labels, label_smoothing=spec["smoothing"])
    if spec["alpha"] == 0.0:
        return ce, ce, torch.zeros(())
    t = spec["temperature"]
    pair = F.log_softmax(logits / t, 1), F.log_softmax(teacher / t, 1)
    if spec["elementwise"]:  # KLDivLoss() as it comes: the mean over rows and classes
        kl = F.kl_div(*pair, log_target=True, reduction="none").mean()
    else:
        kl = F.kl_div(*pair, log_target=True, reduction="batchmean")
    return (1.0 - spec["alpha"]) * ce + spec["alpha"] * t * t * kl, ce, t * t * kl


def backward(network, data, rows, parts, spec):
    """Gradients of the batch in its micro-batches; running statistics averaged over them,
    weighted by samples. Returns the losses."""
    pictures, before = normalised(data), [t.clone() for t in statistics(network)]
    after, sums = [torch.zeros_like(t) for t in before], np.zeros(3)
    network.train()
    network.zero_grad(set_to_none=True)
    for start, part in zip(np.cumsum([0] + parts), parts):
        share, some = part / len(rows), rows[start:start + part]
        for t, b in zip(statistics(network), before):
            t.copy_(b)
        values = losses(network(pictures[some]), data, some, spec)
        (share * values[0]).backward()
        sums += share * np.array([v.item() for v in values])
        for total, t in zip(after, statistics(network)):
            total += share * t
    for t, total in zip(statistics(network), after):
        t.copy_(total)
    return sums


def make_gradients(network, data, spec):
    """The first batch's losses and gradients; in the statistics' range its means and variances."""
    network = copy.deepcopy(network)
    before = [t.clone() for t in statistics(network)]
    sums = backward(network, data, np.arange(BATCH), [BATCH], spec)
    batch = [(t - 0.9 * b) / 0.1 for t, b in zip(statistics(network), before)]
    return {"losses": sums, "gradients": flat([p.grad for p in network.parameters()] + batch)}


def make_optimizer(network, spec):
    """Weight decay on the weights of convolutions and linear layers alone."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() == 1]
    groups = [dict(params=weights, weight_decay=spec["weight_decay"]),
              dict(params=others, weight_decay=0.0)]
    if spec["adamw"]:
        return torch.optim.AdamW(groups, lr=spec["lr"], betas=(spec["beta1"], spec["beta2"]),
                                 eps=spec["epsilon"])
    return torch.optim.SGD(groups, lr=spec["lr"], momentum=spec["momentum"], nesterov=True)


def make_ema(network):
    """e = w + d (e - w) at update t from 0, d = min(decay, (1 + t) / (10 + t)). The first call of
    update_parameters copies; it is spent on the initial weights."""

    def average(e, w, count):
        t = int(count) - 1
        return w + min(EMA_DECAY, (1.0 + t) / (10.0 + t)) * (e - w)

    ema = torch.optim.swa_utils.AveragedModel(network, avg_fn=average, use_buffers=True)
    ema.update_parameters(network)
    return ema


def make_run(network, data, run):
    """Ten steps: the loss of each, and weights and EMA behind them."""
    loss, spec, parts = run
    network = copy.deepcopy(network)
    optimizer, ema, totals = make_optimizer(network, spec), make_ema(network), []
    rates = spec["lr"] * (1.0 - 0.05 * np.arange(STEPS))
    for step in range(STEPS):
        rows = (BATCH * step + np.arange(BATCH)) % SAMPLES
        totals.append(backward(network, data, rows, parts, LOSSES[loss])[0])
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
        ema.update_parameters(network)
    return {"lr": rates, "parts": np.array(parts, np.int32), "totals": np.array(totals),
            "weights": flat_arena(network), "ema": flat_arena(ema.module)}


def make_seed(arch, norm, data, seed):
    """(path, values, attributes) of all groups of one network."""
    network = Network(arch, norm).double()
    initialise(network, np.random.RandomState(seed))
    names, tensors = zip(*arena(network))
    pictures = normalised(data)[:BATCH]
    with torch.no_grad():
        train = copy.deepcopy(network).train()(pictures).numpy()
        evaluate = copy.deepcopy(network).eval()(pictures).numpy()
    yield "start", {"names": np.array(names, "S40"),
                    "counts": np.array([t.numel() for t in tensors], np.int32),
                    "initial": flat_arena(network).astype(np.float32),
                    "logits_train": train, "logits_eval": evaluate}, {"seed": seed}
    for name, spec in LOSSES.items():
        yield f"loss/{name}", make_gradients(network, data, spec), spec
    for name, run in RUNS.items():
        yield f"run/{name}", make_run(network, data, run), dict(run[1], **LOSSES[run[0]])


def make_variant(out, arch, norm, data):
    """The first seed with no ReLU close to its kink: f32 then opens the same ones as f64."""
    for seed in range(1, 100):
        Network.kink = float("inf")
        made = list(make_seed(arch, norm, data, seed))
        if Network.kink > KINK:
            for group in made:
                put(out, *group)
            return
    raise SystemExit("no seed keeps every ReLU away from its kink")


def put(out, path, values, attributes):
    group = out.create_group(path)
    for name, value in attributes.items():
        group.attrs[name] = float(value)
    for name, value in values.items():
        group[name] = value


def make_file(path, name):
    arch = ARCHS[name]
    data = make_data(arch, np.random.RandomState(100))
    with h5py.File(path, "w", libver=("earliest", "v108")) as out:
        out.attrs["torch"] = str(torch.__version__)
        out.attrs["arch"] = np.bytes_(f"{name}/{arch['divisor']}")
        out.attrs["classes"] = arch["classes"]
        out.attrs["ema_decay"] = EMA_DECAY
        out["mean"], out["deviation"] = np.array(MEAN), np.array(DEVIATION)
        for key, value in data.items():
            out[key] = value
        make_variant(out.create_group("batch"), arch, True, data)
        make_variant(out.create_group("none"), arch, False, data)


def make_state(arch, norm, seed):
    """The state_dict() of the network that make_seed begins with, in f32."""
    network = Network(arch, norm).double()
    initialise(network, np.random.RandomState(seed))
    for name, t in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            t.fill_(COUNTED)
    return network.float().state_dict()


def states(name):
    """(file name, state_dict) of both variants of a network whose .h5 file is there."""
    for norm in "batch", "none":
        with h5py.File(HERE / f"{name}.h5") as kept:
            seed = int(kept[f"{norm}/start"].attrs["seed"])
        yield f"{name}-{norm}.safetensors", make_state(ARCHS[name], norm == "batch", seed)


def check_state(file, made):
    """What is kept has the same tensors, to the bit."""
    kept = load_file(HERE / file)
    alike = sorted(made) == sorted(kept) and all(
        made[n].dtype == kept[n].dtype and torch.equal(made[n], kept[n]) for n in made)
    print(f"{HERE / file}: {'the same' if alike else 'not what is made'}")
    return alike


def difference(made, kept):
    """Of two data sets, |made - kept| / |kept|; infinite when they are not of one kind."""
    made, kept = made[()], kept[()]
    if made.shape != kept.shape or made.dtype != kept.dtype:
        return float("inf")
    if made.dtype.kind in "Sui":
        return 0.0 if np.array_equal(made, kept) else float("inf")
    return float(np.linalg.norm(made - kept) / max(np.linalg.norm(kept), 1e-300))


def same(made, kept, limit=1e-6):
    """True when every data set and attribute of one file is in the other."""
    paths, others, worst = [], [], 0.0
    made.visit(paths.append)
    kept.visit(others.append)
    if paths != others:
        print(f"{kept.filename}: not what is made: {sorted(set(paths) ^ set(others))}")
        return False
    for path in paths:
        a, b = made[path], kept[path]
        error = 0.0 if isinstance(a, h5py.Group) else difference(a, b)
        if dict(a.attrs) != dict(b.attrs):
            print(f"{kept.filename}: {path}: {dict(b.attrs)} is kept, {dict(a.attrs)} is made")
            return False
        if not error <= limit:
            print(f"{kept.filename}: {path} differs by {error:g}")
            return False
        worst = max(worst, error)
    print(f"{kept.filename}: {len(paths)} objects, the worst differs by {worst:.2g}")
    return True


def check(name):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{name}.h5"
        make_file(path, name)
        with h5py.File(path) as made, h5py.File(HERE / f"{name}.h5") as kept:
            alike = same(made, kept)
    return all([alike] + [check_state(*state) for state in states(name)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check:
        return 0 if all([check(name) for name in ARCHS]) else 1
    for name in ARCHS:
        path = HERE / f"{name}.h5"
        make_file(path, name)
        print(f"{path}: {path.stat().st_size} bytes")
        for file, state in states(name):
            save_file(state, HERE / file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
