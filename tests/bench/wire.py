"""make bench-http: what backpropd costs on the wire, as ratios measured in one run.

Two servers are measured in turn (A B A B ...), the median of the rounds counts: a machine that is
busy is busy for both. The table goes to the terminal and to tests/bench/HTTP.md.

    python3 tests/bench/wire.py [NAME ...]   only these of: hello body peer busy idle models
    BENCH_SECONDS=3 BENCH_ROUNDS=3
"""
import http.client
import json
import os
import platform
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from wire_server import BENCH, PYTHON, Daemon, Hello, Peer

SECONDS = int(os.environ.get("BENCH_SECONDS", "3"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
FOLDER = tempfile.mkdtemp(prefix="backpropd-bench-")
rows = []


def row(what, target, measured, met, note=""):
    rows.append((what, target, measured, "yes" if met else "**no**", note))
    print("%-62s %-14s %-14s %-4s %s" % (what, target, measured, "yes" if met else "NO", note), flush=True)


def skip(what, why):
    rows.append((what, "", "not measured", "", why))
    print("%-62s not measured: %s" % (what, why), flush=True)


# ---- models and bodies ----------------------------------------------------------------------------

def dense(*widths):
    layers = []
    for n in widths[1:]:
        layers += [{"op": "linear", "out_features": n}, {"op": "relu"}]
    return {"inputs": [{"name": "x", "shape": [-1, widths[0]]}], "layers": layers[:-1],
            "loss": {"op": "cross_entropy"}, "optimizer": {"op": "sgd", "lr": 0.01, "momentum": 0.9}}


def cifar():
    def block(n):
        return [{"op": "conv2d", "out_channels": n, "kernel_size": 3, "padding": 1, "bias": False},
                {"op": "batch_norm2d"}, {"op": "relu"}]
    pool = [{"op": "max_pool2d", "kernel_size": 2}]
    return {"inputs": [{"name": "x", "shape": [-1, 3, 32, 32]}],
            "layers": block(64) + block(64) + pool + block(128) + block(128) + pool + [
                {"op": "flatten"}, {"op": "linear", "out_features": 256}, {"op": "relu"},
                {"op": "linear", "out_features": 10}],
            "loss": {"op": "cross_entropy"}, "optimizer": {"op": "sgd", "lr": 0.01, "momentum": 0.9}}


def tensor(name, shape, numbers, datatype="FP32"):
    return '{"name":"%s","shape":%s,"datatype":"%s","data":[%s]}' % (
        name, json.dumps(shape), datatype, ",".join(numbers))


def numbers(count, form="%.6f"):
    return [form % random.random() for _ in range(count)]


def question(name, shape, form="%.6f"):
    count = 1
    for n in shape:
        count *= n
    return save(name, '{"inputs":[%s]}' % tensor("x", shape, numbers(count, form)))


def batch(name, samples, pixels):
    return save(name, '{"inputs":[%s],"targets":[%s]}' % (
        tensor("x", [samples, pixels], numbers(samples * pixels)),
        tensor("target", [samples], [str(random.randrange(10)) for _ in range(samples)], "INT64")))


def save(name, text):
    path = "%s/%s.json" % (FOLDER, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def in_turn(**measures):
    """Each of them ROUNDS times, in turn; the median of every figure."""
    results = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, measure in measures.items():
            results[name].append(measure())
    bad = {name: sum(r["errors"] for r in rs) for name, rs in results.items()}
    for name, errors in bad.items():
        if errors:
            print("%s: %d errors" % (name, errors))
    return {name: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for name, rs in results.items()}


# ---- measurements ---------------------------------------------------------------------------------

def computing(daemon, model):
    """Mean microseconds of one prediction between reading its body and writing its answer."""
    s = daemon.call("GET", "/v2/models/%s/stats" % model)["model_stats"][0]["inference_stats"]
    return s["compute_infer"]["ns"], s["compute_infer"]["count"]


def bench_hello():
    hello, daemon = Hello(), Daemon()
    nets = {"4-16-3": ([4, 16, 3], question("tiny", [1, 4])),
            "784-512-256-10": ([784, 512, 256, 10], question("mlp", [1, 784]))}
    for connections in (1, 64):
        r = in_turn(hello=lambda: hello.wrk("/", None, connections, SECONDS),
                    live=lambda: daemon.wrk("/v2/health/live", None, connections, SECONDS))
        ratio = r["live"]["rate"] / r["hello"]["rate"]
        row("health check / hello-world, requests a second, %d conn." % connections, ">= 0.9",
            "%.2f" % ratio, ratio >= 0.9, "%.0f / %.0f" % (r["live"]["rate"], r["hello"]["rate"]))
    for name, (widths, body) in nets.items():
        model = "m%d" % widths[0]
        path = "/v2/models/%s/infer" % model
        daemon.call("PUT", "/v2/models/" + model, dense(*widths))
        before = computing(daemon, model)
        r = in_turn(hello=lambda: hello.wrk("/", body, 1, SECONDS),
                    net=lambda: daemon.wrk(path, body, 1, SECONDS))
        after = computing(daemon, model)
        compute = (after[0] - before[0]) / (after[1] - before[1]) / 1e3
        over = r["net"]["p50"] - r["hello"]["p50"] - (compute if widths[0] > 4 else 0)
        row("%s, JSON, batch 1: p50 over hello-world's%s" % (name, " and its compute" if widths[0] > 4 else ""),
            "<= 60 us", "%.0f us" % over, over <= 60, "p50 %.0f, hello %.0f, compute %.0f us" % (
                r["net"]["p50"], r["hello"]["p50"], compute))
        r = in_turn(hello=lambda: hello.wrk("/", body, 64, SECONDS),
                    net=lambda: daemon.wrk(path, body, 64, SECONDS))
        each = 1e6 / r["net"]["rate"] - (compute if widths[0] > 4 else 0)
        ratio = 1e6 / r["hello"]["rate"] / each if each > 0 else 99
        row("%s at 64 conn. / hello-world%s" % (name, ", less its compute" if widths[0] > 4 else ""),
            ">= 0.33", "%.2f" % ratio if each > 0 else "> 1", ratio >= 1 / 3,
            "%.0f / %.0f requests a second" % (r["net"]["rate"], r["hello"]["rate"]))
    hello.end()
    daemon.end()


def whole_request(c, body, headers):
    """Nanoseconds of a request of 200,000 floats, from its first byte to the end of its answer."""
    begin = time.perf_counter_ns()
    c.request("POST", "/v2/models/wide/infer", body, headers)
    answer = c.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit("%d %s" % (answer.status, text[:300]))
    return time.perf_counter_ns() - begin


def bench_body():
    count = 200000
    daemon = Daemon()
    daemon.call("PUT", "/v2/models/wide", {"inputs": [{"name": "x", "shape": [-1, count]}],
                                           "layers": [{"op": "mean", "dim": 1}]})
    c = http.client.HTTPConnection(daemon.address)
    for form, what, target in (("%.6f", "6 decimals", 20), ("%.9g", "9 digits", 20), ("%.17g", "17 digits", 60)):
        body = open(question("wide", [1, count], form), "rb").read()
        times = [whole_request(c, body, {"Content-Type": "application/json"}) / count for _ in range(15 * ROUNDS)]
        time.sleep(0.1)  # the log is written some milliseconds later
        inside = [float(word[11:]) * 1e6 / count for word in open(daemon.folder + "/log").read().split()
                  if word.startswith("compute_ms=")][-len(times):]
        ns = statistics.median(inside)
        row("200,000 floats in JSON, %s: reading a float" % what, "<= %d ns" % target, "%.1f ns" % ns,
            ns <= target, "with the loopback %.1f ns, %.1f MB" % (statistics.median(times), len(body) / 1e6))
    head = json.dumps({"inputs": [{"name": "x", "shape": [1, count], "datatype": "FP32",
                                   "parameters": {"binary_data_size": 4 * count}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    times = [whole_request(c, head + bytes(4 * count), headers) / count for _ in range(15 * ROUNDS)]
    row("the same in binary, with the loopback", "-", "%.1f ns" % statistics.median(times), True)
    daemon.end()


def bench_peer():
    probe = subprocess.run([PYTHON, "-c", "import torch, fastapi, uvicorn"], capture_output=True)
    if probe.returncode:
        return skip("FastAPI + PyTorch", "Debian's python3-torch, python3-fastapi and python3-uvicorn are not there")
    daemon, peer = Daemon(), Peer()
    daemon.call("PUT", "/v2/models/mlp", dense(784, 512, 256, 10))
    one, step = question("one", [1, 784]), batch("step", 32, 784)
    for connections, pydantic, raw in ((1, 25, 10), (32, 40, 15)):
        r = in_turn(ours=lambda: daemon.wrk("/v2/models/mlp/infer", one, connections, SECONDS),
                    pydantic=lambda: peer.wrk("/v2/models/mlp/infer", one, connections, SECONDS),
                    raw=lambda: peer.wrk("/v2/models/mlp/infer_raw", one, connections, SECONDS))
        against(r, "MLP predictions, %d conn." % connections, pydantic, raw)
    r = in_turn(ours=lambda: daemon.wrk("/v2/models/mlp/train_step", step, 1, SECONDS),
                pydantic=lambda: peer.wrk("/v2/models/mlp/train_step", step, 1, SECONDS),
                raw=lambda: peer.wrk("/v2/models/mlp/train_step_raw", step, 1, SECONDS))
    against(r, "train_step of 32 examples", 10, 3)
    daemon.end()
    peer.end()


def against(r, what, pydantic, raw):
    for form, target in (("pydantic", pydantic), ("raw", raw)):
        ratio = r["ours"]["rate"] / r[form]["rate"]
        row("%s / FastAPI %s" % (what, form), ">= %d" % target, "%.1f" % ratio, ratio >= target,
            "%.0f / %.0f a second" % (r["ours"]["rate"], r[form]["rate"]))


TRAINER = """
import http.client, json, os, sys
head = json.dumps({"inputs": [{"name": "x", "shape": [64, 3, 32, 32], "datatype": "FP32",
                               "parameters": {"binary_data_size": 64 * 3072 * 4}}],
                   "targets": [{"name": "target", "shape": [64], "datatype": "INT64",
                                "data": [i % 10 for i in range(64)]}]}).encode()
body = head + bytes(64 * 3072 * 4)
c = http.client.HTTPConnection(sys.argv[1])
while True:
    c.request("POST", "/v2/models/cifar/train_step", body,
              {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))})
    r = c.getresponse()
    r.read()
    if r.status != 200:
        sys.exit(1)
"""


def bench_busy():
    daemon = Daemon()
    daemon.call("PUT", "/v2/models/mlp", dense(784, 512, 256, 10))
    daemon.call("PUT", "/v2/models/cifar", cifar())
    one = question("one", [1, 784])

    def busy():
        trainer = subprocess.Popen([sys.executable, "-c", TRAINER, daemon.address])
        time.sleep(1)
        r = daemon.wrk("/v2/models/mlp/infer", one, 1, 2 * SECONDS)
        if trainer.poll() is not None:
            raise SystemExit("the training stopped by itself")
        trainer.kill()
        trainer.wait()
        time.sleep(1)
        return r

    r = in_turn(idle=lambda: daemon.wrk("/v2/models/mlp/infer", one, 1, 2 * SECONDS), busy=busy)
    limit = max(5 * r["idle"]["p99"], 5000)
    row("p99 of MLP predictions while a CIFAR CNN is trained", "<= %.1f ms" % (limit / 1e3),
        "%.2f ms" % (r["busy"]["p99"] / 1e3), r["busy"]["p99"] <= limit, "idle %.2f ms" % (r["idle"]["p99"] / 1e3))
    row("p99.9 of the same", "< 50 ms", "%.2f ms" % (r["busy"]["p999"] / 1e3), r["busy"]["p999"] < 50e3)
    daemon.end()


def ask_raw(s):
    s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b"}" not in answer:
        part = s.recv(4096)
        if not part:
            return False
        answer += part
    return answer.startswith(b"HTTP/1.1 200")


def bench_idle():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 1000)
    daemon = Daemon("--connections", str(count + 200), "--request-timeout", "600")
    daemon.call("PUT", "/v2/models/tiny", dense(4, 16, 3))
    host, port = daemon.address.split(":")
    idle, failed = [], 0
    start = daemon.resident()
    for _ in range(count):
        idle.append(socket.create_connection((host, int(port))))
        failed += not ask_raw(idle[-1])
    r = daemon.wrk("/v2/models/tiny/infer", question("tiny", [1, 4]), 64, SECONDS)
    resident = daemon.resident()
    failed += sum(not ask_raw(s) for s in idle)
    errors = failed + r["errors"]
    row("%d idle keep-alive connections and 64 busy ones: errors" % count, "0", "%d" % errors,
        errors == 0 and count == 10000, "%.0f requests a second" % r["rate"])
    row("resident memory with them", "< 200 MB", "%.0f MB" % resident, resident < 200, "%.0f MB before" % start)
    for s in idle:
        s.close()
    daemon.end()


def bench_models():
    daemon = Daemon()
    step = open(batch("step", 32, 784), "rb").read()

    def turn(i):
        path = "/v2/models/model%d" % i
        daemon.call("PUT", path, dense(784, 512, 256, 10))
        daemon.call("POST", path + "/train_step", step)
        daemon.call("POST", path + "/infer", open(question("one", [1, 784]), "rb").read())
        daemon.call("DELETE", path)

    for i in range(10):  # after these code, libraries and SQLite's cache are in memory
        turn(i)
    time.sleep(1)
    start = daemon.resident()
    for i in range(10, 210):
        turn(i)
    time.sleep(1)
    end = daemon.resident()
    row("memory after 200 models made, trained and deleted in turn", "<= +10%", "%+.1f%%" % (100 * (end / start - 1)),
        end <= 1.1 * start, "%.1f MB, %.1f MB before" % (end, start))
    daemon.end()


# ---- the report -----------------------------------------------------------------------------------

def machine():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return "%s, %d cores, Linux %s" % (names[0] if names else platform.machine(), os.cpu_count(),
                                       platform.release().split("-")[0])


def write_report(loads):
    with open(BENCH + "/HTTP.md", "w") as f:
        f.write("# Speed of the wire\n\nMade by `make bench-http` on %s. Clients, backpropd and what it is "
                "compared with share these cores.\nMedians of %d rounds of %d seconds, measured in turn. Load of "
                "the machine over the minute before: %.1f at the start, %.1f at the end.\n\n"
                % (time.strftime("%Y-%m-%d") + ": " + machine(), ROUNDS, SECONDS, *loads))
        f.write("| what | target | measured | met | |\n| --- | --- | --- | --- | --- |\n")
        for r in rows:
            f.write("| %s |\n" % " | ".join(r))


def main():
    benches = {"hello": bench_hello, "body": bench_body, "peer": bench_peer, "busy": bench_busy,
               "idle": bench_idle, "models": bench_models}
    chosen = sys.argv[1:] or list(benches)
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not there (Debian: apt-get install wrk)")
    random.seed(1)
    before = os.getloadavg()[0]
    for name in chosen:
        benches[name]()
    shutil.rmtree(FOLDER)
    if chosen == list(benches):
        write_report((before, os.getloadavg()[0]))
    print("%d of %d met" % (sum(r[3] == "yes" for r in rows), sum(bool(r[3]) for r in rows)))


main()
