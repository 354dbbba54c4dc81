#!/usr/bin/env python3
"""What durability costs: train_step over HTTP with binary bodies, on models that differ in `durability` only.

    build/backpropd --listen 127.0.0.1:8080 --data /tmp/bench &
    tests/bench/durability.py 127.0.0.1:8080 [seconds for each net, 10]

The models take turns, a few steps each (A B C A B C ...); printed are medians and their ratio to `none`. Then four small
models of one kind are trained at once by four clients: steps a second of all together, which shows what their fsyncs
share. Needs nothing but Python's own library."""
import http.client
import json
import random
import statistics
import struct
import sys
import threading
import time

NETS = {
    "mlp 784-512-256-10, batch 64": ([784], [
        {"op": "linear", "out_features": 512}, {"op": "relu"}, {"op": "linear", "out_features": 256},
        {"op": "relu"}, {"op": "linear", "out_features": 10}]),
    "cifar cnn with BN, batch 64": ([3, 32, 32], [
        layer for pair in ((64, 64), (128, 128)) for layer in [
            piece for channels in pair for piece in (
                {"op": "conv2d", "out_channels": channels, "kernel_size": 3, "padding": 1, "bias": False},
                {"op": "batch_norm2d"}, {"op": "relu"})] + [{"op": "max_pool2d", "kernel_size": 2}]] + [
        {"op": "flatten"}, {"op": "linear", "out_features": 256}, {"op": "relu"},
        {"op": "linear", "out_features": 10}]),
}
KINDS = ("none", "process", "power")
BATCH, TURN = 64, 4


def request(connection, method, path, body, headers):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {data[:300]!r}")


def step_body(shape):
    count = BATCH
    for side in shape:
        count *= side
    image = struct.pack(f"<{count}f", *(random.gauss(0, 1) for _ in range(count)))
    target = struct.pack(f"<{BATCH}q", *(random.randrange(10) for _ in range(BATCH)))

    def tensor(name, datatype, dims, data):
        return {"name": name, "datatype": datatype, "shape": dims, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor("x", "FP32", [BATCH, *shape], image)],
                       "targets": [tensor("target", "INT64", [BATCH], target)]}).encode()
    return head + image + target, {"Content-Type": "application/octet-stream",
                                   "Inference-Header-Content-Length": str(len(head))}


def measure(connection, name, shape, layers, seconds):
    body, headers = step_body(shape)
    for kind in KINDS:
        description = {"inputs": [{"name": "x", "shape": [-1, *shape]}], "layers": layers, "loss": "cross_entropy",
                       "optimizer": {"op": "sgd", "lr": 0.01, "momentum": 0.9}, "durability": kind}
        request(connection, "PUT", f"/v2/models/bench-{kind}", json.dumps(description),
                {"Content-Type": "application/json"})
    times = {kind: [] for kind in KINDS}
    end = time.time() + seconds
    while time.time() < end or len(times["none"]) < 3 * TURN:
        for kind in KINDS:
            for _ in range(TURN):
                begin = time.perf_counter()
                request(connection, "POST", f"/v2/models/bench-{kind}/train_step", body, headers)
                times[kind].append(time.perf_counter() - begin)
    medians = {kind: statistics.median(times[kind]) for kind in KINDS}
    print(f"{name}: {len(times['none'])} steps each;",
          ", ".join(f"{kind} {medians[kind] * 1e3:.2f} ms ({medians[kind] / medians['none']:.3f})" for kind in KINDS))
    for kind in KINDS:
        request(connection, "DELETE", f"/v2/models/bench-{kind}", None, {})


def train_until(address, name, body, headers, end, counts):
    connection = http.client.HTTPConnection(address)
    while time.time() < end:
        request(connection, "POST", f"/v2/models/{name}/train_step", body, headers)
        counts[name] = counts.get(name, 0) + 1


def measure_together(address, seconds, models=4):
    connection = http.client.HTTPConnection(address)
    body, headers = step_body([16])
    rates = {}
    for kind in KINDS:
        names = [f"bench-{kind}-{i}" for i in range(models)]
        description = {"inputs": [{"name": "x", "shape": [-1, 16]}], "layers": [{"op": "linear", "out_features": 10}],
                       "loss": "cross_entropy", "optimizer": "sgd", "durability": kind}
        for name in names:
            request(connection, "PUT", f"/v2/models/{name}", json.dumps(description),
                    {"Content-Type": "application/json"})
        counts, end = {}, time.time() + seconds
        threads = [threading.Thread(target=train_until, args=(address, name, body, headers, end, counts))
                   for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rates[kind] = sum(counts.values()) / seconds
        for name in names:
            request(connection, "DELETE", f"/v2/models/{name}", None, {})
    print(f"{models} small models at once:", ", ".join(f"{kind} {rates[kind]:.0f} steps/s" for kind in KINDS))


def main():
    connection = http.client.HTTPConnection(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10
    for name, (shape, layers) in NETS.items():
        measure(connection, name, shape, layers, seconds)
    measure_together(sys.argv[1], seconds)


main()
