"""steps_report.py: the samples of steps.py as tables: medians, ratios, memory, and all samples."""
import collections
import datetime
import json
import os
import platform
import re
import statistics
import subprocess

Net = collections.namedtuple("Net", "title batch train infer")  # targets: ratios to the best peer
NETS = {
    "mlp": Net("MLP 784-512-256-10", 64, 1.4, 1.5),
    "lenet": Net("LeNet-5", 64, 4, 1.5),
    "cifar": Net("CIFAR CNN with BN", 64, 2.5, 1.8),
    "resnet18": Net("ResNet-18, CIFAR stem", 64, 2.5, 1.8),
    "resnet18_224": Net("ResNet-18, 224x224", 8, 2, 1.8),
    "char_gpt": Net("char-GPT, 128 characters", 16, 1.5, 1.2),
    "yolo_n": Net("YOLOv8n, 320x320", 4, 2, 1.8),
}
PEERS = {"train": ("PyTorch", "PyTorch, channels last"), "infer": ("onnxruntime",)}


def rates(line, name):
    return [r["examples_per_second"] for r in line.get(name, []) if "examples_per_second" in r]


def median(line, name):
    values = rates(line, name)
    return statistics.median(values) if values else None


def best_of(line, names):
    """The best peer of the line by its median: its name and rate."""
    found = [(median(line, name), name) for name in names if median(line, name)]
    return max(found) if found else (None, None)


def number(x, form="%.1f"):
    return form % x if x else "-"


def lines_of(results, mode):
    for key, line in results.items():
        net, its_mode, batch, threads = key.split()
        if its_mode == mode and rates(line, "backpropd"):
            yield net, int(batch), int(threads), line


# ---- tables ---------------------------------------------------------------------------------------

def of_ours(line, field):
    return statistics.median(r[field] for r in line["backpropd"] if field in r)


def train_rows(results):
    yield ("net, training step", "batch", "threads", "examples/s", "GFLOP/s", "of sgemm", "PyTorch", "its setting",
           "ours / PyTorch", "target", "through HTTP", "HTTP adds")
    for net, batch, threads, line in lines_of(results, "train"):
        own, http = median(line, "backpropd"), median(line, "HTTP")
        rate, name = best_of(line, PEERS["train"])
        flops = of_ours(line, "gflops_per_second")
        yield (NETS[net].title, batch, threads, number(own), number(flops),
               "%.0f%%" % (100 * flops / of_ours(line, "peak_gflops_per_second")), number(rate),
               "channels last" if name and "last" in name else "-", number(rate and own / rate, "%.2f"),
               NETS[net].train, number(http), "%+.1f%%" % (100 * (own / http - 1)) if http else "-")


def infer_rows(results):
    yield ("net, inference", "batch", "threads", "examples/s", "of sgemm", "onnxruntime", "PyTorch, fused",
           "ours / onnxruntime", "target")
    for net, batch, threads, line in lines_of(results, "infer"):
        own, ort = median(line, "backpropd"), median(line, "onnxruntime")
        flops = of_ours(line, "gflops_per_second")
        yield (NETS[net].title, batch, threads, number(own),
               "%.0f%%" % (100 * flops / of_ours(line, "peak_gflops_per_second")), number(ort),
               number(median(line, "PyTorch, fused")), number(ort and own / ort, "%.2f"), NETS[net].infer)


def megabytes(line, names, field):
    values = [r[field] / 1e6 for name in names for r in line.get(name, []) if field in r]
    return min(values) if values else None


def memory_rows(results):
    yield ("net, training step, 1 thread", "batch", "process", "of it the net", "PyTorch's process",
           "of it the net", "net: ours / PyTorch")
    for net, batch, threads, line in lines_of(results, "train"):
        if threads != 1:
            continue
        own = [megabytes(line, ("backpropd",), f) for f in ("resident_bytes", "net_bytes")]
        peer = [megabytes(line, PEERS["train"], f) for f in ("resident_bytes", "net_bytes")]
        yield (NETS[net].title, batch, *(number(x, "%.0f MB") for x in own + peer),
               number(peer[1] and own[1] / peer[1], "%.2f"))


def sample_rows(results):
    yield "net", "mode", "batch", "threads", "who", "examples/s, round by round", "load"
    for key, line in results.items():
        for name, samples in line.items():
            yield (*key.split(), name,
                   ", ".join(number(r["examples_per_second"]) if "examples_per_second" in r else "failed: "
                             + r.get("failed", "?") for r in samples),
                   ", ".join("%.1f" % r["load"] for r in samples if "load" in r))


def markdown(rows):
    rows = [[str(x) for x in row] for row in rows]
    if len(rows) < 2:
        return ""
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join("| %s |\n" % " | ".join(row) for row in rows)


def terminal(rows):
    rows = [[str(x) for x in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("  ".join(x.ljust(w) if i == 0 else x.rjust(w) for i, (x, w) in enumerate(zip(row, widths))) + "\n"
                   for row in rows)


# ---- the machine ----------------------------------------------------------------------------------

def output(*command):
    run = subprocess.run(command, capture_output=True, text=True)
    return run.stdout.strip()


def machine():
    text = open("/proc/cpuinfo").read()
    model = re.search(r"model name\s*: (.*)", text)
    flags = (re.search(r"(?:flags|Features)\s*: (.*)", text) or [""])[0].split()
    known = [f for f in ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "asimd", "sve") if f in flags]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return "%s, %d cores, %s; %.0f GB; Linux %s, %s" % (
        model.group(1) if model else platform.machine(), os.cpu_count(), " ".join(known), memory,
        platform.release().split("-")[0], output("cc", "--version").splitlines()[0])


def versions(python, modules):
    if python:
        yield output(python, "-c", "import torch; print('PyTorch', torch.__version__)")
    if modules:
        path = modules + "/node_modules/onnxruntime-node/package.json"
        yield "onnxruntime-node " + json.load(open(path))["version"]


ABOUT = """Examples a second, medians of the rounds; each round is the median of a few seconds of steps on random data.
Contenders take turns, each in a process of its own. PyTorch: eager, its threads set, OMP_WAIT_POLICY=PASSIVE, the
better of its two memory layouts; for predictions traced, frozen and optimised (`torch.jit`). onnxruntime: all graph
optimisations, models exported by `torch.onnx`. GFLOP/s count the layers with parameters, convolutions as if done
directly: Winograd's may be above those of sgemm. HTTP: `train_step` with binary tensors over loopback, one
connection, the client on the same cores, the page cache used before. Memory: the most that was resident; "the
net" is what it was above the process before there was a net (for PyTorch: after `import torch`)."""


def in_order(results):
    """Lines that were measured again stand where they stood."""
    order = list(NETS)

    def place(key):
        net, mode, batch, threads = key.split()
        return order.index(net), mode != "train", int(batch), int(threads)

    return {key: results[key] for key in sorted(results, key=place)}


def report(results, path, python, modules):
    results = in_order(results)
    tables = [("Training", train_rows), ("Inference", infer_rows), ("Memory", memory_rows)]
    for _, rows in tables:
        table = list(rows(results))
        if len(table) > 1:
            print("\n" + terminal(table), end="")
    if not path:
        return
    with open(path, "w") as f:
        f.write("# Training steps and predictions\n\nMade by `make bench` on %s: %s.\nBeside it: %s.\n\n%s\n" % (
            datetime.date.today(), machine(), ", ".join(versions(python, modules)) or "nobody", ABOUT))
        for title, rows in tables:
            table = markdown(rows(results))
            if table:
                f.write("\n## %s\n\n%s" % (title, table))
        f.write("\n## Samples\n\n" + markdown(sample_rows(results)))
