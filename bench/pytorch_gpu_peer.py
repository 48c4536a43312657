#!/usr/bin/env python3
"""What `retort bench --device cuda` measures, in PyTorch at its best on one GPU: images a second of
whole training steps of conv12 or conv4 in bf16 (or f32, tf32), everything on the GPU: windows cut
at random, mirrored, normalised, forward, cross-entropy, backward, SGD with Nesterov momentum and
weight decay, EMA of all weights. Channels last; the fused optimizer, its learning rate on the GPU.

Sets itself up once, then measures for each line on standard input and answers with a JSON object:
what takes long (compiling, capturing) is done once for all rounds. --device cpu rehearses it all
without a GPU, where nothing can be captured.
"""

import argparse
import json
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as F

from compare import CONVS
from pytorch_network import CLASSES, network, padded

PICTURES, PAD = 512, 4
WINDOWS, WARM_UP_STEPS = 7, 5


class Pictures:
    """u8 pictures on the device, padded once; a batch is gathered there, channels last."""

    def __init__(self, o):
        pixels = torch.randint(256, (PICTURES, 3, o.size, o.size)).float()
        pixels = F.pad(pixels, (PAD,) * 4, mode="reflect").permute(0, 2, 3, 1)
        self.pixels = pixels.to(torch.uint8).contiguous().to(o.device)
        self.labels = torch.randint(CLASSES, (PICTURES,)).to(o.device)
        self.mean = torch.tensor([0.485, 0.456, 0.406], device=o.device) * 255
        self.scale = 1 / (torch.tensor([0.229, 0.224, 0.225], device=o.device) * 255)
        self.line = torch.arange(o.size, device=o.device)
        self.count, self.more = o.batch, padded(3, o.pad) - 3

    def batch(self):
        count, device = self.count, self.line.device
        chosen = torch.randint(PICTURES, (count,), device=device)
        top, left = torch.randint(2 * PAD + 1, (2, count, 1), device=device)
        mirrored = torch.rand((count, 1), device=device) < 0.5
        rows = top + self.line
        columns = left + torch.where(mirrored, len(self.line) - 1 - self.line, self.line)
        raw = self.pixels[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        images = F.pad((raw.float() - self.mean) * self.scale, (0, self.more))
        return images.permute(0, 3, 1, 2), self.labels[chosen]  # channels last, as it lies


class Trainer:
    def __init__(self, o):
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high" if o.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = o.precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self.cuda = o.device.startswith("cuda")
        self.net = network(o.arch, o.size, o.pad).to(o.device, memory_format=torch.channels_last)
        decayed = [p for p in self.net.parameters() if p.dim() > 1]
        plain = [p for p in self.net.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
            lr=torch.tensor(1e-3, device=o.device), momentum=0.9, nesterov=True, fused=True)
        self.weights = [t.detach() for t in self.net.state_dict().values()
                        if t.is_floating_point()]
        self.ema = [t.clone() for t in self.weights]
        self.pictures = Pictures(o)
        self.fixed = self.pictures.batch()
        self.kind = torch.device(o.device).type
        self.bf16 = o.precision == "bf16"
        self.loss, self.batch = self.loss_of, self.pictures.batch
        if o.compile:
            mode = None if o.compile == "default" else o.compile
            self.loss = torch.compile(self.loss_of, mode=mode)
            self.batch = torch.compile(self.pictures.batch, mode=mode)
        self.graphs = {}
        if o.graph and self.cuda:
            self.graphs = {augmented: self.capture(augmented) for augmented in (True, False)}

    def loss_of(self, images, labels):
        # A captured graph may not keep autocast's casts of weights from one step to the next.
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            return F.cross_entropy(self.net(images), labels)

    def plain_step(self, augmented):
        self.loss(*(self.batch() if augmented else self.fixed)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(self.ema, self.weights, 1e-3)

    def capture(self, augmented):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                self.plain_step(augmented)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.plain_step(augmented)
        return graph

    def step(self, augmented):
        if augmented in self.graphs:
            self.graphs[augmented].replay()
        else:
            self.plain_step(augmented)

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def window(self, steps, augmented):
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.step(augmented)
        self.wait()
        return time.perf_counter() - start

    def figures(self, o, augmented):
        """Images a second of each window."""
        self.window(WARM_UP_STEPS, augmented)
        once = self.window(WARM_UP_STEPS, augmented) / WARM_UP_STEPS
        steps = max(1, int(o.seconds / WINDOWS / once))
        return [steps * o.batch / self.window(steps, augmented) for _ in range(WINDOWS)]

    def peak_memory(self):
        return torch.cuda.max_memory_reserved() if self.cuda else 0


def answer(trainer, o):
    augmented, bare = trainer.figures(o, True), trainer.figures(o, False)
    middle = statistics.median(augmented)
    return {"images_per_s": middle, "spread": (max(augmented) - min(augmented)) / middle,
            "bare_images_per_s": statistics.median(bare), "windows": augmented,
            "peak_memory_bytes": trainer.peak_memory(), "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(".", maxsplit=1)[0])
    parser.add_argument("--arch", choices=CONVS, default="conv12")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", choices=("f32", "tf32", "bf16"), default="bf16")
    parser.add_argument("--compile", choices=("default", "max-autotune-no-cudagraphs"))
    parser.add_argument("--graph", action="store_true", help="capture the step as a CUDA graph")
    parser.add_argument("--pad", action="store_true", help="channels in multiples of 8")
    parser.add_argument("--seconds", type=float, default=3, help="for each of both figures")
    parser.add_argument("--size", type=int, default=64, help="of pictures (for rehearsals)")
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal")
    o = parser.parse_args()
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # libraries print what they like
    trainer = Trainer(o)
    for _ in sys.stdin:
        print(json.dumps(answer(trainer, o)), file=answers, flush=True)


if __name__ == "__main__":
    main()
