"""A small client of backpropd for the learning runs: a daemon of their own, models, batches as binary tensors.

Needs nothing but Python's own library. BACKPROPD=host:port uses a daemon that runs already, else one is started from
BUILD (build) and ended with the script. DATA (../shared/data) is where the data sets are."""
import array
import atexit
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

DATA = os.environ.get("DATA", "../shared/data")
BUILD = os.environ.get("BUILD", "build")
DATATYPES = {"f": "FP32", "q": "INT64", "i": "INT32", "B": "UINT8"}  # of array's type codes


class Tensor:
    """Numbers of a shape: `data` is an array.array, or bytes of the given datatype."""

    def __init__(self, name, shape, data, datatype=None):
        self.data = data.tobytes() if isinstance(data, array.array) else data
        self.json = {"name": name, "shape": shape, "datatype": datatype or DATATYPES[data.typecode],
                     "parameters": {"binary_data_size": len(self.data)}}


class Daemon:
    def __init__(self):
        self.address = os.environ.get("BACKPROPD") or self.start()
        self.connection = http.client.HTTPConnection(self.address)

    def start(self):
        folder = tempfile.mkdtemp(prefix="backpropd-learning-")
        log = open(folder + "/log", "w")
        process = subprocess.Popen([BUILD + "/backpropd", "--listen", "127.0.0.1:0", "--data", folder + "/data",
                                    "--port-file", folder + "/port"], stdout=log, stderr=log)
        atexit.register(self.end, process, folder)
        while process.poll() is None:
            if os.path.exists(folder + "/port"):
                with open(folder + "/port") as port:
                    return port.read().strip()
            time.sleep(0.05)
        with open(folder + "/log") as log:
            sys.exit(log.read())

    @staticmethod
    def end(process, folder):
        process.terminate()
        process.wait()
        shutil.rmtree(folder)

    def call(self, method, path, body=None, tensors=()):
        """The answer's JSON. `body` is a dict; tensors follow its JSON as bytes."""
        text = json.dumps(body).encode() if body is not None else None
        headers = {"Inference-Header-Content-Length": str(len(text))} if tensors else {}
        self.connection.request(method, path, b"".join([text] + [t.data for t in tensors]) if tensors else text,
                                headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {data[:500]!r}")
        return json.loads(data)

    def create(self, name, description):
        self.call("PUT", "/v2/models/" + name, description)
        return Model(self, name)


class Model:
    def __init__(self, daemon, name):
        self.daemon, self.path = daemon, "/v2/models/" + name

    def verb(self, verb, inputs, targets, **parameters):
        body = {"inputs": [t.json for t in inputs], "targets": [t.json for t in targets]}
        if parameters:
            body["parameters"] = parameters
        return self.daemon.call("POST", f"{self.path}/{verb}", body, inputs + targets)

    def step(self, inputs, targets, **parameters):
        return self.verb("train_step", inputs, targets, **parameters)

    def evaluate(self, batches):
        """Mean loss and accuracy over batches (inputs, targets, samples)."""
        loss = right = count = 0
        for inputs, targets, n in batches:
            answer = self.verb("evaluate", inputs, targets)
            loss += answer["loss"] * n
            right += answer["metrics"]["accuracy"] * n
            count += n
        return loss / count, right / count

    def delete(self):
        self.daemon.call("DELETE", self.path)


def classes(labels, name="target"):
    return Tensor(name, [len(labels)], array.array("q", labels))


def batches(order, size):
    return (order[i:i + size] for i in range(0, len(order), size))


def say(text):
    print(text, flush=True)
