#!/usr/bin/env python3
"""What `retort bench` measures, in PyTorch: images a second of whole training steps of conv12 or
conv4 on synthetic 64 x 64 pictures: forward, cross-entropy, backward, SGD with Nesterov momentum
and weight decay, EMA of all weights; several processes by DDP over gloo. Prints one JSON object.

Everything that makes PyTorch faster here and changes no result is on: the fused optimizer,
gradients as views of DDP's buckets, no broadcast of statistics, a core for each process, one list
operation for the average.
"""

import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from compare import CONVS
from pytorch_network import CLASSES, network

SIZE, PICTURES, PAD = 64, 512, 4
WINDOWS, WARM_UP_STEPS = 7, 3


class Pictures:
    """u8 pictures in memory, padded once; a batch of windows, half of them mirrored, normalised."""

    def __init__(self, batch, channels_last):
        pixels = torch.randint(256, (PICTURES, 3, SIZE, SIZE)).float()
        padded = F.pad(pixels, (PAD,) * 4, mode="reflect").to(torch.uint8)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.padded = padded.contiguous(memory_format=layout)
        self.raw = torch.empty((batch, 3, SIZE, SIZE), dtype=torch.uint8, memory_format=layout)
        self.labels = torch.randint(CLASSES, (PICTURES,))
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
        self.scale = 1 / (torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255)
        self.next = 0

    def batch(self):
        count = len(self.raw)
        chosen = [(self.next + i) % PICTURES for i in range(count)]
        corners = torch.randint(2 * PAD + 1, (count, 2)).tolist()
        for i, (k, (y, x)) in enumerate(zip(chosen, corners)):
            self.raw[i] = self.padded[k, :, y:y + SIZE, x:x + SIZE]
        self.next += count
        mirrored = torch.rand(count) < 0.5
        self.raw[mirrored] = self.raw[mirrored].flip(3)
        return (self.raw.float() - self.mean) * self.scale, self.labels[chosen]


class Trainer:
    def __init__(self, o, rank):
        torch.manual_seed(rank)
        net = network(o.arch, SIZE)
        if o.channels_last:
            net = net.to(memory_format=torch.channels_last)
        decayed = [p for p in net.parameters() if p.dim() > 1]
        plain = [p for p in net.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
            lr=1e-3, momentum=0.9, nesterov=True, fused=True)
        self.weights = [t.detach() for t in net.state_dict().values() if t.is_floating_point()]
        self.ema = [t.clone() for t in self.weights]
        self.pictures = Pictures(o.batch // o.processes, o.channels_last)
        self.fixed = self.pictures.batch()
        self.bf16 = o.precision == "bf16"
        if o.processes > 1:
            net = DistributedDataParallel(net, gradient_as_bucket_view=True,
                                          broadcast_buffers=False)
        self.net = torch.compile(net) if o.compile else net

    def step(self, augmented):
        images, labels = self.pictures.batch() if augmented else self.fixed
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(self.ema, self.weights, 1e-3)


def window(trainer, steps, augmented, processes):
    if processes > 1:
        dist.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step(augmented)
    if processes > 1:
        dist.barrier()
    return time.perf_counter() - start


def figures(trainer, o, augmented):
    """Images a second of each window; how many steps they take is rank 0's word."""
    window(trainer, WARM_UP_STEPS, augmented, o.processes)
    steps = torch.tensor(o.seconds / WINDOWS / window(trainer, 1, augmented, o.processes)).ceil()
    if o.processes > 1:
        dist.broadcast(steps, 0)
    steps = int(steps)
    return [steps * o.batch / window(trainer, steps, augmented, o.processes)
            for _ in range(WINDOWS)]


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(rank, o, cores):
    libraries = peak_memory()
    torch.set_num_threads(o.threads)
    if o.processes > 1:
        os.sched_setaffinity(0, cores[rank * o.threads:(rank + 1) * o.threads])
        dist.init_process_group("gloo", rank=rank, world_size=o.processes)
    trainer = Trainer(o, rank)
    augmented, bare = figures(trainer, o, True), figures(trainer, o, False)
    peak = torch.tensor(peak_memory())
    if o.processes > 1:
        dist.all_reduce(peak, dist.ReduceOp.MAX)
    if rank == 0:
        middle = statistics.median(augmented)
        print(json.dumps({
            "images_per_s": middle, "spread": (max(augmented) - min(augmented)) / middle,
            "bare_images_per_s": statistics.median(bare), "windows": augmented,
            "peak_memory_bytes": int(peak), "libraries_bytes": libraries, "torch": torch.__version__}), flush=True)
    if o.processes > 1:
        dist.barrier()
        os._exit(0)  # DDP's own end can hang


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(".")[0])
    parser.add_argument("--arch", choices=CONVS, default="conv12")
    parser.add_argument("--batch", type=int, default=100, help="of all processes together")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=5, help="for each of both figures")
    o = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if o.processes == 1:
        run(0, o, cores)
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(20000 + os.getpid() % 20000))
    torch.multiprocessing.spawn(run, (o, cores), o.processes)


if __name__ == "__main__":
    main()
