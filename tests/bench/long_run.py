#!/usr/bin/env python3
"""A long run of a small model over HTTP: that neither log nor database nor memory grows without end.

    build/backpropd --listen 127.0.0.1:8080 --data /tmp/bench &
    tests/bench/long_run.py 127.0.0.1:8080 /tmp/bench PID [steps, 100000] > tests/bench/long_run.txt

Printed: bytes of the redo logs, of the database with its write-ahead log, and of the process, at equal distances of
steps. Metrics rows are kept on purpose, so the database grows by them alone: the last line says by how many bytes a
step. Needs nothing but Python's own library."""
import http.client
import json
import os
import sys
import time

SAMPLES = 10
DESCRIPTION = {"inputs": [{"name": "x", "shape": [-1, 32]}], "loss": "cross_entropy", "optimizer": {"op": "adam"},
               "layers": [{"op": "linear", "out_features": 64}, {"op": "relu"}, {"op": "linear", "out_features": 10}]}


def request(connection, method, path, body=None):
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {data[:300]!r}")
    return data


def size(folder, wanted):
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            if wanted(os.path.join(root, name)):
                try:
                    total += os.path.getsize(os.path.join(root, name))
                except FileNotFoundError:
                    pass  # a segment that a checkpoint has just let go of
    return total


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def main():
    address, folder, pid = sys.argv[1:4]
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 100000
    connection = http.client.HTTPConnection(address)
    request(connection, "PUT", "/v2/models/long", json.dumps(DESCRIPTION))
    bodies = [json.dumps({"inputs": [[(i * 7 + j * k) % 13 / 13 for j in range(32)] for k in range(32)],
                          "targets": [(i + k) % 10 for k in range(32)]}) for i in range(16)]
    print(f"{'steps':>8} {'log MB':>8} {'most':>6} {'database MB':>12} {'RSS MB':>7} {'steps/s':>8}")
    begin, most, database = time.time(), 0, []
    for step in range(1, steps + 1):
        request(connection, "POST", "/v2/models/long/train_step", bodies[step % 16])
        if step % 500 == 0:
            log = size(folder, lambda path: path.endswith(".redo"))
            most = max(most, log)
        if step % max(1, steps // SAMPLES) == 0:
            database.append(size(folder, lambda path: "backpropd.db" in path))
            print(f"{step:8} {log / 1e6:8.1f} {most / 1e6:6.1f} {database[-1] / 1e6:12.1f} {resident(pid) / 1e6:7.1f} "
                  f"{step / (time.time() - begin):8.0f}", flush=True)
    rows = request(connection, "GET", "/v2/models/long/metrics?max_points=1")
    series = len(json.loads(rows)["series"])
    half = len(database) // 2
    print(f"database: {(database[-1] - database[half - 1]) / (steps * (len(database) - half) / len(database)):.0f} "
          f"bytes a step, which are {series} rows of metrics")


if __name__ == "__main__":
    main()
