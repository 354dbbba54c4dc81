#!/usr/bin/env python3
"""Half an hour of mixed load, during which nothing may grow.

    python3 tests/bench/soak.py [--minutes 30] [--build build] [--report tests/bench/SOAK.md]

Starts a daemon and lets clients, a process each, train models over and over (each model is deleted when it has had its
steps), predict, make and restore versions, move aliases, clone, send weights and images, follow events, poll metrics,
and send what must be refused. Every few seconds the daemon's memory, file descriptors, threads, database, redo logs and
its own log are sampled, and the latency of predictions. The first third warms up. Then the last third is held to the
one before it, row by row of LIMITS. In the end every model is deleted, and what they held must have been given back.

Fails with a sentence for each thing that grew and for each answer that should not have been. The report is Markdown.
Needs nothing but Python's own library."""
import argparse
import collections
import glob
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

MLP = {"inputs": [{"name": "x", "shape": [-1, 64]}], "layers": [
    {"op": "linear", "out_features": 128}, {"op": "relu"}, {"op": "dropout"}, {"op": "linear", "out_features": 10}],
    "loss": "cross_entropy", "optimizer": {"op": "adam", "lr": 0.001}}
CNN = {"inputs": [{"name": "image", "shape": [-1, 3, 16, 16]}], "layers": [
    {"op": "conv2d", "out_channels": 8, "kernel_size": 3, "padding": 1}, {"op": "batch_norm2d"}, {"op": "relu"},
    {"op": "max_pool2d", "kernel_size": 2}, {"op": "flatten"}, {"op": "linear", "out_features": 10}],
    "preprocess": {"fit": "stretch"}, "loss": "cross_entropy", "optimizer": {"op": "sgd", "lr": 0.01, "momentum": 0.9}}
LIFE = 400       # steps of a model that is trained over and over
BATCH = 16

TIMEOUT = 10     # seconds, the daemon's --request-timeout: how long it keeps a connection whose client has gone

# What is sampled; how much larger the median of the last third may be than that of the third before: a share of it and
# so much in its unit. Latencies are those of a machine that others use as well: they get more room, and more still
# when the machine itself has become slower, seen by how late the same client wakes up from its pauses ("wake").
LIMITS = {
    "memory": ("MB resident", 0.05, 4),
    "files": ("open descriptors", 0, 16),
    "threads": ("threads", 0, 0),
    "database": ("MB of database and WAL", 0.10, 2),
    "redo": ("MB of redo logs", 0.50, 6),
    "log": ("bytes of log an answer", 0.10, 10),
    "p99": ("ms, p99 of predictions", 0.50, 5),
    "wake": ("ms, p99 of waking up late (the machine)", float("inf"), 0),
}
# What a client may be told although it did nothing wrong: its model was deleted or made by another meanwhile.
EXPECTED = {404, 409, 412, 429}


class Client:
    """A kept connection; answers are counted as ok, refused as expected, or wrong."""

    def __init__(self, address, counts):
        self.connection = http.client.HTTPConnection(address, timeout=60)
        self.counts = counts

    def ask(self, method, path, body=None, headers=None, refused=None, race=False):
        """Status and body. `refused`: the status that it must have. `race`: EXPECTED will do, too."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status == refused or (race and answer.status in EXPECTED):
            self.counts["refused"] += 1
        elif refused is None and answer.status < 300:
            self.counts["ok"] += 1
        else:
            self.counts["wrong"] += 1
            print(f"{method} {path}: {answer.status} {data[:300]!r}", file=sys.stderr)
        return answer.status, data


def floats(n):
    return [round(random.uniform(-1, 1), 4) for _ in range(n)]


def binary_step():
    """A step of the CNN in binary framing."""
    image = struct.pack(f"<{BATCH * 768}f", *floats(BATCH * 768))
    target = struct.pack(f"<{BATCH}q", *(random.randrange(10) for _ in range(BATCH)))
    head = json.dumps({
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [BATCH, 3, 16, 16],
                    "parameters": {"binary_data_size": len(image)}}],
        "targets": [{"name": "target", "datatype": "INT64", "shape": [BATCH],
                     "parameters": {"binary_data_size": len(target)}}]}).encode()
    return head + image + target, {"Content-Type": "application/octet-stream",
                                   "Inference-Header-Content-Length": str(len(head))}


# ---- clients: each is called again and again, and says how long it pauses --------------------------------------------

def train(client, state, name="train"):
    """A model is made, trained for its life, and deleted; now and then a retry of a step that was answered."""
    step = state.setdefault("step", 0)
    if step == 0:
        client.ask("PUT", f"/v2/models/{name}", MLP)
    body = {"inputs": [floats(64) for _ in range(BATCH)], "targets": [random.randrange(10) for _ in range(BATCH)]}
    headers = {"Idempotency-Key": f'"{random.getrandbits(64):x}"'} if step % 5 == 0 else {}
    first = client.ask("POST", f"/v2/models/{name}/train_step", body, headers)
    if headers and client.ask("POST", f"/v2/models/{name}/train_step", body, headers) != first:
        client.counts["wrong"] += 1
    if step % 20 == 0:
        client.ask("POST", f"/v2/models/{name}/evaluate", body)
        client.ask("POST", f"/v2/models/{name}/gradients", body)
    state["step"] = (step + 1) % LIFE
    if state["step"] == 0:
        client.ask("DELETE", f"/v2/models/{name}")
    return 0.04


def train_binary(client, state):
    step = state.setdefault("step", 0)
    if step == 0:
        client.ask("PUT", "/v2/models/images", CNN)
    body, headers = binary_step()
    client.ask("POST", "/v2/models/images/train_step", body, headers)
    if step % 10 == 0:
        with open("tests/data/images/rgb.jpg", "rb") as f:
            client.ask("POST", "/v2/models/images/infer", f.read(), {"Content-Type": "image/jpeg"})
    state["step"] = (step + 1) % LIFE
    if state["step"] == 0:
        client.ask("DELETE", "/v2/models/images")
    return 0.04


def predict(client, state):
    """The one whose latency is measured."""
    begin = time.perf_counter()
    client.ask("POST", "/v2/models/kept/infer", state.setdefault("body", json.dumps({"inputs": [floats(64)]})))
    state["times"].append((time.perf_counter() - begin, state.get("wake", 0)))
    return 0.01


def predict_any(client, state):
    path = random.choice(("train", "kept", "versions/versions/prod"))
    client.ask("POST", f"/v2/models/{path}/infer", {"inputs": [floats(64) for _ in range(4)]}, race=True)
    return 0.02


def versions(client, state):
    """Versions are made, named, restored and deleted, so that five are there; their model lives for 50 rounds."""
    turn = state.setdefault("turn", 0)
    if turn == 0:
        client.ask("PUT", "/v2/models/versions", MLP)
        state["made"] = collections.deque()
    client.ask("POST", "/v2/models/versions/train_step", {"inputs": [floats(64)], "targets": [3]})
    _, data = client.ask("POST", "/v2/models/versions/versions", {"note": "soak"})
    state["made"].append(json.loads(data)["version"])
    client.ask("PUT", "/v2/models/versions/aliases/prod", {"version": state["made"][-1], "who": "soak"})
    client.ask("POST", f"/v2/models/versions/versions/{random.choice(state['made'])}/restore")
    if len(state["made"]) > 5:
        client.ask("DELETE", f"/v2/models/versions/versions/{state['made'].popleft()}")
    state["turn"] = (turn + 1) % 50
    if state["turn"] == 0:
        client.ask("DELETE", "/v2/models/versions")
    return 0.3


def churn(client, state):
    """Models come and go, as copies and from templates."""
    client.ask("POST", "/v2/models/kept/clone", {"name": "copy"})
    client.ask("POST", "/v2/models/copy/forward_backward", {"inputs": [floats(64)], "targets": [1]})
    client.ask("POST", "/v2/models/copy/optim_step")
    client.ask("PATCH", "/v2/models/copy", {"lr": 0.5})
    client.ask("GET", "/v2/models/copy?state_sha256=1")
    client.ask("DELETE", "/v2/models/copy")
    client.ask("PUT", "/v2/models/other", {"template": {"name": "mlp", "in_features": 8, "out_features": 3}})
    client.ask("DELETE", "/v2/models/other")
    return 0.5


def upload(client, state):
    """Weights down and up again, and a question that needs no model."""
    _, data = client.ask("GET", "/v2/models/kept/weights")
    client.ask("PUT", "/v2/models/loaded", MLP)
    client.ask("PUT", "/v2/models/loaded/weights", data, {"Content-Type": "application/octet-stream"})
    client.ask("DELETE", "/v2/models/loaded")
    client.ask("POST", "/v2/autograd", {"expression": "sum((w*x-10)**2)", "tensors": {
        "w": {"data": floats(100), "requires_grad": True}, "x": {"data": floats(100)}}})
    return 0.5


def poll(client, state):
    for path in ("/metrics", "/v2/models", "/v2/models/stats", "/v2/models/kept/stats", "/", "/v2/operators"):
        client.ask("GET", path)
    client.ask("GET", "/v2/models/train/metrics?names=loss&max_points=100", race=True)
    return 1


def refuse(client, state):
    """What must be refused, each with its own status."""
    step = "/v2/models/kept/train_step"
    for method, path, body, headers, status in (
            ("POST", step, "{", {}, 400), ("POST", step, '{"inputs":[[1,"x"]]}', {}, 400),
            ("POST", step, {"inputs": [[1]], "targets": [0]}, {}, 422),
            ("POST", step, {"inputs": [floats(64)], "targets": [99]}, {}, 422),
            ("POST", step, "[" * 100000, {}, 400),
            ("POST", step, b"\x1f\x8b rubbish", {"Content-Encoding": "gzip"}, 400),
            ("POST", step, "{}", {"Inference-Header-Content-Length": "77"}, 400),
            ("POST", step, "x", {"Content-Type": "text/plain"}, 415),
            ("PUT", "/v2/models/kept/weights", b"\x08\0\0\0\0\0\0\0{}      rest", {}, 400),
            ("PUT", "/v2/models/bad", {"inputs": [{"shape": [4]}], "layers": [{"op": "nothing"}]}, {}, 422),
            ("GET", "/v2/models/nobody", None, {}, 404), ("GET", "/v2/nowhere?x=%zz", None, {}, 404),
            ("DELETE", "/v2", None, {}, 405), ("POST", "/v2/autograd", {"expression": "1+"}, {}, 400)):
        client.ask(method, path, body, headers, refused=status)
    # Connections that end in the middle of a request: each is held until --request-timeout at most.
    host, port = client.connection.host, client.connection.port
    for text in (b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{" % step.encode(),
                 b"GET /v2 HT", b""):
        with socket.create_connection((host, port)) as s:
            s.sendall(text)
    return 0.5


def follow(client, state):
    """A stream of events for some seconds, then another one."""
    host, port = client.connection.host, client.connection.port
    with socket.create_connection((host, port), timeout=1) as s:
        s.sendall(b"GET /v2/models/%s/events?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n" %
                  random.choice((b"train", b"kept")))
        end, got = time.time() + random.uniform(0.5, 5), b""
        while time.time() < end:
            try:
                part = s.recv(65536)
            except TimeoutError:
                continue
            got = got or part
            if not part:
                break
    client.counts["ok" if b" 200 " in got[:20] else "refused" if b" 404 " in got[:20] else "wrong"] += 1
    return 0.1


CLIENTS = (train, train_binary, predict, predict_any, versions, churn, upload, poll, refuse, follow, follow)


def run_client(work, address, stop, results):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    counts, state = collections.Counter(), {"times": []}
    client, flushed = Client(address, counts), time.time()
    while not stop.is_set():
        try:
            pause = work(client, state)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
            counts["wrong"] += 1
            print(f"{work.__name__}: {e!r}", file=sys.stderr)
            client.connection.close()
            pause = 1
        if time.time() - flushed > 2:
            results.put((work.__name__, dict(counts), state["times"]))
            counts.clear()
            state["times"], flushed = [], time.time()
        begin = time.perf_counter()
        stop.wait(pause)
        state["wake"] = time.perf_counter() - begin - pause
    results.put((work.__name__, dict(counts), state["times"]))


# ---- the daemon ------------------------------------------------------------------------------------------------------

class Daemon:
    def __init__(self, build, folder):
        self.data, self.log = os.path.join(folder, "data"), os.path.join(folder, "log")
        port_file = os.path.join(folder, "port")
        with open(self.log, "wb") as log:
            command = [os.path.join(build, "backpropd"), "--listen", "127.0.0.1:0", "--data", self.data,
                       "--port-file", port_file, "--request-timeout", str(TIMEOUT)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            if os.path.exists(port_file) and os.path.getsize(port_file):
                break
            time.sleep(0.1)
        with open(port_file) as f:
            self.address = f.read().strip()

    def sizes(self, pattern):
        total = 0
        for path in glob.glob(os.path.join(self.data, pattern), recursive=True):
            try:
                total += os.path.getsize(path) if os.path.isfile(path) else 0
            except FileNotFoundError:  # a log that was just forgotten
                pass
        return total

    def sample(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.split(":", 1) for line in f)
        redo = self.sizes("redo/**/*.redo")
        return {"memory": int(status["VmRSS"].split()[0]) / 1024, "files": len(os.listdir(f"/proc/{pid}/fd")),
                "threads": int(status["Threads"]), "database": (self.sizes("**") - redo) / 2**20,
                "redo": redo / 2**20, "log_bytes": os.path.getsize(self.log)}

    def gauge(self, name):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")))


# ---- samples and what is made of them --------------------------------------------------------------------------------

def drain(results, totals):
    """The latencies that came in; counts are added to `totals`."""
    times = []
    while not results.empty():
        name, counts, took = results.get()
        for key, n in counts.items():
            totals[name][key] += n
        times += took if name == "predict" else []
    return times


def take_samples(daemon, results, totals, seconds):
    samples, begin, every = [], time.time(), max(2, min(10, seconds / 60))
    log, answered = os.path.getsize(daemon.log), 0
    while time.time() - begin < seconds and daemon.process.poll() is None:
        time.sleep(every)
        s, times = daemon.sample(), drain(results, totals)
        s["minute"] = (time.time() - begin) / 60
        answers = sum(sum(c.values()) for c in totals.values())
        if answers > answered:
            s["log"] = (s["log_bytes"] - log) / (answers - answered)
        log, answered = s["log_bytes"], answers
        if len(times) >= 50:
            for i, name in enumerate(("p99", "wake")):
                s[name] = statistics.quantiles([t[i] for t in times], n=100)[98] * 1000
        samples.append(s)
    return samples


def compare(samples):
    """A row for each of LIMITS: medians of the three thirds, and the limit of the last."""
    third, rows = len(samples) // 3, []
    for name, (unit, share, more) in LIMITS.items():
        parts = [[s[name] for s in part if name in s] for part in
                 (samples[:third], samples[third:2 * third], samples[2 * third:])]
        if not all(parts):
            sys.exit(f"there are not enough samples of {name}")
        medians = [statistics.median(part) for part in parts]
        rows.append([name, unit, medians, max(parts[2]), medians[1] * (1 + share) + more])
    by_name = {row[0]: row for row in rows}
    wake = by_name["wake"][2]
    by_name["p99"][4] *= max(1, wake[2] / max(wake[1], 0.1))
    return rows


def report(path, minutes, samples, rows, totals, end, wrong):
    lines = [f"# Soak: {minutes:g} minutes of mixed load", "",
             "Made by `make soak` (`tests/bench/soak.py` says what its clients do). Medians of each third of the time;",
             "the last may not be above the limit, which follows from the second.", "",
             "| | first third | second | last | largest of the last | limit | |", "|---|---|---|---|---|---|---|"]
    for name, unit, medians, largest, limit in rows:
        verdict = "" if limit == float("inf") else "flat" if medians[2] <= limit else "**grew**"
        shown = "none" if limit == float("inf") else f"{limit:.1f}"
        lines.append(f"| {unit} | " + " | ".join(f"{x:.1f}" for x in (*medians, largest)) + f" | {shown} | {verdict} |")
    lines += ["", "| minute | " + " | ".join(LIMITS) + " |", "|---" * (len(LIMITS) + 1) + "|"]
    for s in samples[::max(1, len(samples) // 10)]:
        lines.append(f"| {s['minute']:.1f} | " + " | ".join(
            f"{s[name]:.1f}" if name in s else "" for name in LIMITS) + " |")
    lines += ["", "| client | answered | refused, as it must be | wrong |", "|---|---|---|---|"]
    for name in sorted(totals):
        lines.append(f"| {name} | {totals[name]['ok']} | {totals[name]['refused']} | {totals[name]['wrong']} |")
    lines += ["", *end, "", *(wrong or ["Nothing grew."]), ""]
    with open(path, "w") as f:
        f.write("\n".join(lines))
    print("\n".join(lines))


def finish(daemon, before):
    """Deletes what is left, and compares with the daemon as it began. Lines for the report, and what is wrong."""
    counts = collections.Counter()
    client = Client(daemon.address, counts)
    for m in json.loads(client.ask("GET", "/v2/models")[1])["models"]:
        client.ask("DELETE", f"/v2/models/{m['name']}")
    client.connection.close()
    time.sleep(TIMEOUT + 5)
    budget, after = daemon.gauge("backpropd_memory_budget_used_bytes"), daemon.sample()
    daemon.process.send_signal(signal.SIGTERM)
    status = daemon.process.wait(60)
    lines = [f"With every model deleted: {budget:.0f} bytes of the memory budget in use, {after['files']} descriptors "
             f"({before['files']} at the start), {after['threads']} threads ({before['threads']}), "
             f"{after['redo']:.1f} MB of redo logs. The daemon then ended with status {status}."]
    wrong = []
    if budget:
        wrong.append(f"{budget:.0f} bytes of the memory budget were never given back.")
    if after["files"] > before["files"] + 3:
        wrong.append(f"{after['files']} descriptors are open after it, {before['files']} were before.")
    if after["redo"] > 0:
        wrong.append(f"{after['redo']:.1f} MB of redo logs are left of models that are deleted.")
    if status or counts["wrong"]:
        wrong.append(f"The daemon ended with status {status}; {counts['wrong']} deletions failed.")
    return lines, wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", 30)))
    parser.add_argument("--build", default="build")
    parser.add_argument("--report", default="tests/bench/SOAK.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(args.build, folder)
        before = daemon.sample()
        Client(daemon.address, collections.Counter()).ask("PUT", "/v2/models/kept", MLP)
        stop, results = multiprocessing.Event(), multiprocessing.Queue()
        totals = collections.defaultdict(collections.Counter)
        clients = [multiprocessing.Process(target=run_client, args=(work, daemon.address, stop, results))
                   for work in CLIENTS]
        for c in clients:
            c.start()
        try:
            samples = take_samples(daemon, results, totals, args.minutes * 60)
        finally:
            stop.set()
            for _ in range(100):
                drain(results, totals)
                if not any(c.is_alive() for c in clients):
                    break
                time.sleep(0.1)
            for c in clients:
                c.terminate()
        if daemon.process.poll() is not None:
            with open(daemon.log) as log:
                last = "".join(log.readlines()[-20:])
            sys.exit(f"the daemon ended with status {daemon.process.returncode}:\n{last}")
        rows = compare(samples)
        end, wrong = finish(daemon, before)
        wrong = [f"{unit}: {medians[2]:.1f} in the last third, over {limit:.1f}; it was {medians[1]:.1f} before."
                 for _, unit, medians, _, limit in rows if medians[2] > limit] + wrong
        wrong += [f"The client {name} had {totals[name]['wrong']} answers that should not have been."
                  for name in totals if totals[name]["wrong"]]
        report(args.report, args.minutes, samples, rows, totals, end, wrong)
        sys.exit(1 if wrong else 0)


main()
