"""make bench: training steps and predictions of the engine, beside PyTorch and onnxruntime where they
are installed, in turns (A B A B ...), so that a busy machine hurts all alike.

    python3 tests/bench/steps.py [--quick] [--fresh] [--limit MINUTES]
        [--nets mlp,lenet] [--threads 1,2] [--rounds 3] [--seconds 2] [--modes train,infer]

Every sample is kept in build/bench/steps.json as soon as it is there: what was ended goes on where it
was, net by net; --fresh begins anew for the nets and modes that are named. The tables go to the terminal and,
but for --quick, with all samples to tests/bench/RESULTS.md (steps_report.py)."""
import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time

from steps_report import NETS, report
from wire_server import BENCH, BUILD, Daemon

FOLDER = BUILD + "/bench"
INFER_BATCHES = (1, 32)
IMAGES = ("lenet", "cifar", "resnet18", "resnet18_224", "yolo_n")

parser = argparse.ArgumentParser()
parser.add_argument("--nets", default=",".join(NETS))
parser.add_argument("--threads", default="1,2" if (os.cpu_count() or 1) > 1 else "1")
parser.add_argument("--modes", default="train,infer")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--seconds", type=float, default=2)
parser.add_argument("--limit", type=float, default=0)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--fresh", action="store_true")
options = parser.parse_args()
if options.quick:
    options.rounds, options.seconds = 1, 0.3
    FOLDER += "/quick"
DEADLINE = time.time() + 60 * options.limit if options.limit else float("inf")


# ---- who is there ---------------------------------------------------------------------------------

def works(*command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def find_python():
    for candidate in ([os.environ["PYTHON"]] if "PYTHON" in os.environ else []) + ["python3", "/usr/bin/python3"]:
        if works(candidate, "-c", "import torch"):
            return candidate
    return None


PYTHON = find_python()
MODULES = os.path.abspath(BUILD + "/bench")
ORT = os.path.isdir(MODULES + "/node_modules/onnxruntime-node") and works("node", "--version")


# ---- one measurement each: a dict as `backpropd bench --json` prints it ---------------------------

def last_json(command):
    run = subprocess.run(command, capture_output=True, text=True, timeout=300 + 30 * options.seconds)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        raise RuntimeError(" ".join(command[:2]) + ": " + (run.stderr.strip().splitlines() or ["no answer"])[-1])
    return json.loads(lines[-1])


def ours(net, mode, batch, threads):
    return last_json([BUILD + "/backpropd", "bench", "--json", "--nets", net, "--mode", mode, "--threads",
                      str(threads), "--seconds", str(options.seconds)] + (["--batch", str(batch)] if batch else []))


def torch(net, mode, batch, threads, *flags):
    return last_json([PYTHON, BENCH + "/torch_peer.py", "--nets", net, "--mode", mode, "--threads", str(threads),
                      "--seconds", str(options.seconds), *flags] + (["--batch", str(batch)] if batch else []))


def onnxruntime(net, batch, threads):
    path = "%s/%s-%d.onnx" % (FOLDER, net, batch)
    if not os.path.exists(path):
        subprocess.run([PYTHON, BENCH + "/torch_peer.py", "--nets", net, "--batch", str(batch), "--export",
                        path + ".new"], check=True, capture_output=True)
        os.rename(path + ".new", path)
    return last_json(["node", BENCH + "/ort_peer.mjs", MODULES, net, path, str(threads), str(options.seconds)])


def tensor_bytes(tensor):
    """Random numbers for one that the model's metadata describes, -1 being the batch."""
    count = 1
    for n in tensor["shape"]:
        count *= n
    if tensor["datatype"] == "INT64":
        return struct.pack("<%dq" % count, *(random.randrange(10) for _ in range(count)))
    return struct.pack("<%df" % count, *(random.random() for _ in range(count)))


def http_body(daemon, net):
    model = daemon.call("GET", "/v2/models/" + net)
    parts, head = [], {}
    for key in "inputs", "targets":
        head[key] = []
        for t in model[key]:
            t = {"name": t["name"], "datatype": t["datatype"], "shape": [NETS[net].batch] + t["shape"][1:]}
            parts.append(tensor_bytes(t))
            t["parameters"] = {"binary_data_size": len(parts[-1])}
            head[key].append(t)
    text = json.dumps(head).encode()
    path = "%s/%s.body" % (FOLDER, net)
    with open(path, "wb") as f:
        f.write(b"".join([text] + parts))
    return path, len(text)


def use_page_cache(daemon):
    """Some 500 MB of files, gone again: where a system has just begun, each page that the redo log
    takes for the first time costs a virtual machine several microseconds, and no daemon that has
    run for a minute meets many of those."""
    path = daemon.folder + "/pages"
    with open(path, "wb", 0) as f:
        for _ in range(500):
            f.write(bytes(1 << 20))
    os.remove(path)


def through_http(net, threads):
    """train_step over loopback with binary tensors, one connection."""
    daemon = Daemon("--threads", str(threads))
    try:
        text = subprocess.run([BUILD + "/backpropd", "bench", "--describe", net], capture_output=True, text=True).stdout
        daemon.call("PUT", "/v2/models/" + net, json.loads(text))
        path, length = http_body(daemon, net)
        step = lambda seconds: daemon.wrk("/v2/models/%s/train_step" % net, path, 1, seconds, length)
        step(1)
        use_page_cache(daemon)
        r = step(max(1, round(3 * options.seconds)))
        if r["requests"] < 8:  # the first waited for one that wrk had left behind
            r = step(10)
        os.remove(path)
        if r["errors"]:
            raise RuntimeError("%d errors over HTTP" % r["errors"])
        if not r["p50"]:
            raise RuntimeError("no step over HTTP ended in the time of the measurement")
        p50 = r["p50"] / 1e6
        return {"net": net, "threads": threads, "seconds_p50": p50, "examples_per_second": NETS[net].batch / p50}
    finally:
        daemon.end()


# ---- contenders of a line, in the order of their turns --------------------------------------------

def contenders(net, mode, batch, threads):
    yield "backpropd", lambda: ours(net, mode, batch, threads)
    if PYTHON and mode == "train":
        yield "PyTorch", lambda: torch(net, mode, batch, threads)
        if net in IMAGES:
            yield "PyTorch, channels last", lambda: torch(net, mode, batch, threads, "--last")
    if mode == "train" and shutil.which("wrk"):
        yield "HTTP", lambda: through_http(net, threads)
    if PYTHON and mode == "infer":
        yield "PyTorch, fused", lambda: torch(net, mode, batch, threads, "--fused")
        if ORT:
            yield "onnxruntime", lambda: onnxruntime(net, batch, threads)


def lines():
    for net in options.nets.split(","):
        if net not in NETS:
            sys.exit("no net is called '%s', expected some of %s" % (net, ",".join(NETS)))
        for mode in options.modes.split(","):
            for batch in ([0] if mode == "train" else INFER_BATCHES):
                for threads in options.threads.split(","):
                    yield net, mode, batch, int(threads)


# ---- what is known --------------------------------------------------------------------------------

def load(path):
    try:
        return json.load(open(path))
    except (OSError, ValueError):
        return {}


def save(path, results):
    with open(path + ".new", "w") as f:
        json.dump(results, f, indent=1)
    os.rename(path + ".new", path)


def same_network(results, key, r):
    """The peer's network must have as many parameters as ours."""
    own = results[key].get("backpropd", [])
    if own and "parameters" in r and r["parameters"] != own[0].get("parameters", r["parameters"]):
        sys.exit("%s: %d parameters, the engine's has %d" % (key, r["parameters"], own[0]["parameters"]))


def measure(results, path):
    for net, mode, batch, threads in lines():
        key = "%s %s %d %d" % (net, mode, batch or NETS[net].batch, threads)
        line = results.setdefault(key, {})
        for turn in range(options.rounds):
            for name, run in contenders(net, mode, batch, threads):
                if len(line.setdefault(name, [])) > turn:
                    continue
                if time.time() > DEADLINE:
                    print("--limit: the rest is left for the next time")
                    return
                try:
                    r = run()
                except (RuntimeError, subprocess.SubprocessError, SystemExit) as e:
                    print("%s, %s: %s" % (key, name, e))
                    r = {"failed": str(e)[:200]}
                same_network(results, key, r)
                r["load"] = os.getloadavg()[0]
                line[name].append(r)
                save(path, results)
        print("%-28s %s" % (key, "  ".join("%s %.1f/s" % (name, best(rs)) for name, rs in line.items() if rs)),
              flush=True)


def best(samples):
    return max((r.get("examples_per_second", 0) for r in samples), default=0)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    path = FOLDER + "/steps.json"
    results = load(path)
    if options.fresh:
        again = [net + " " + mode for net in options.nets.split(",") for mode in options.modes.split(",")]
        results = {k: v for k, v in results.items() if " ".join(k.split()[:2]) not in again}
    if not PYTHON:
        print("no PyTorch here (Debian: python3-torch): the engine alone")
    elif not ORT:
        print("no onnxruntime here: make bench-peers fetches it with npm")
    measure(results, path)
    report(results, None if options.quick else BENCH + "/RESULTS.md", PYTHON, MODULES if ORT else None)


main()
