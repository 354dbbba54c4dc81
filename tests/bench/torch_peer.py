"""torch_peer.py: PyTorch on the networks of `backpropd bench`, with the same kind of JSON lines.

    torch_peer.py --nets mlp --mode train|infer --threads N --seconds S [--batch N] [--last] [--fused]
    torch_peer.py --nets mlp --export FILE --batch N     the network as ONNX, for onnxruntime

--last: channels-last memory; --fused: traced, frozen and optimised for inference (torch.jit)."""
import argparse
import json
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("--nets", required=True)
parser.add_argument("--mode", default="train", choices=["train", "infer"])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--batch", type=int)
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("--last", action="store_true")
parser.add_argument("--fused", action="store_true")
parser.add_argument("--export")
options = parser.parse_args()
# Before torch is loaded. Threads that spin while they wait would fight BLAS's own.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import warnings

import torch

from peer_nets import NETS

warnings.filterwarnings("ignore")
torch.set_num_threads(options.threads)
WARM_UP, SAMPLES_FEWEST = 2, 3


def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) << 10


def network(name):
    build, inputs, targets, loss, optimizer, batch = NETS[name]
    torch.manual_seed(0)
    net = build()
    x = inputs(options.batch or batch)
    if options.last and x.dim() == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return net, x, targets(len(x)), loss, optimizer


def training(name):
    net, x, y, loss, optimizer = network(name)
    net.train()
    update = optimizer(net.parameters())

    def step():
        update.zero_grad(set_to_none=True)
        loss(net(x), y).backward()
        update.step()
    return step, net, len(x)


def inference(name):
    net, x, _, _, _ = network(name)
    net.eval()
    run = net
    if options.fused:
        with torch.no_grad():
            run = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))

    def step():
        with torch.no_grad():
            run(x)
    return step, net, len(x)


def bench(name):
    before = resident()
    step, net, batch = (training if options.mode == "train" else inference)(name)
    for _ in range(WARM_UP):
        step()
    samples, begin = [], time.perf_counter()
    while len(samples) < SAMPLES_FEWEST or time.perf_counter() - begin < options.seconds:
        at = time.perf_counter()
        step()
        samples.append(time.perf_counter() - at)
    low, median, high = statistics.quantiles(samples, n=4)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({
        "net": name, "mode": options.mode, "batch": batch, "threads": options.threads,
        "parameters": sum(p.numel() for p in net.parameters()), "steps": len(samples), "seconds_p25": low,
        "seconds_p50": median, "seconds_p75": high, "examples_per_second": batch / median,
        "resident_bytes": most, "net_bytes": most - before}), flush=True)


def export(name):
    net, x, _, _, _ = network(name)
    torch.onnx.export(net.eval(), x, options.export, input_names=["x"], opset_version=13)


for name in options.nets.split(","):
    if options.export:
        export(name)
    else:
        bench(name)
