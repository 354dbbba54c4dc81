"""torch_train.py: the nets of bench_train.c in PyTorch, stepping on random data, with the same
command line and the same kind of line printed. run.sh sets the two beside each other."""
import argparse
import os
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("nets", nargs="+")
options = parser.parse_args()
# Before torch is loaded. Threads that spin while they wait would fight BLAS's own.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn

torch.set_num_threads(options.threads)
WARM_UP, SAMPLES_FEWEST = 3, 5


def conv(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10))


def cifar():
    return nn.Sequential(
        *conv(3, 64), *conv(64, 64), nn.MaxPool2d(2), *conv(64, 128), *conv(128, 128), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 64, 256), nn.ReLU(), nn.Linear(256, 10))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.deep = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.short = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.deep(x) + self.short(x))


def resnet18():
    blocks, inputs = [], 64
    for outputs, stride in (64, 1), (128, 2), (256, 2), (512, 2):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*conv(3, 64), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


NETS = {"mlp": (mlp, (784,)), "lenet": (lenet, (1, 28, 28)), "cifar": (cifar, (3, 32, 32)),
        "resnet18": (resnet18, (3, 32, 32))}


def bench(name):
    build, shape = NETS[name]
    torch.manual_seed(0)
    net = build().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn((options.batch,) + shape), torch.randint(0, 10, (options.batch,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    for _ in range(WARM_UP):
        step()
    samples, begin = [], time.perf_counter()
    while len(samples) < SAMPLES_FEWEST or time.perf_counter() - begin < options.seconds:
        at = time.perf_counter()
        step()
        samples.append(time.perf_counter() - at)
    low, median, high = statistics.quantiles(samples, n=4)
    print(f"{name:9s} threads {options.threads} batch {options.batch}  {options.batch / median:9.1f} "
          f"examples/s [{options.batch / high:.1f}..{options.batch / low:.1f}]", flush=True)


for net in options.nets:
    bench(net)
