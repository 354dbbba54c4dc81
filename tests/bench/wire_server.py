"""Servers that wire.py measures, as processes: started on a free port, asked, measured, ended."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's torch and fastapi
BUILD = os.environ.get("BUILD", "build")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process that answers HTTP at `address`."""

    def __init__(self, command, address=None, port_file=None, log=None):
        self.log = open(log or os.devnull, "w")
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log)
        end = time.time() + 60
        while time.time() < end and self.process.poll() is None:
            try:
                if port_file:
                    address = open(port_file).read().strip()
                host, port = address.split(":")
                socket.create_connection((host, int(port))).close()
                break
            except (OSError, ValueError):
                time.sleep(0.05)
        else:
            raise SystemExit("%s does not start" % command[0])
        self.address = address

    def end(self):
        self.process.terminate()
        self.process.wait()

    def call(self, method, path, body=None, headers={}):
        c = http.client.HTTPConnection(self.address)
        c.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
        r = c.getresponse()
        text = r.read()
        c.close()
        if r.status >= 300:
            raise SystemExit("%s %s: %d %s" % (method, path, r.status, text[:300]))
        return json.loads(text)

    def resident(self):
        """Megabytes."""
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024

    def wrk(self, path, body=None, connections=1, seconds=3, json_length=None):
        command = ["wrk", "-t1", "-c%d" % connections, "-d%d" % seconds, "--timeout", "30",
                   "-s", BENCH + "/wire.lua", "http://" + self.address, "--", path]
        command += [str(x) for x in (body, json_length) if x]
        out = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in out.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise SystemExit("wrk: " + out.stdout + out.stderr)
        r = json.loads(lines[-1])
        r["rate"] = r["requests"] / r["seconds"]
        return r


class Daemon(Server):
    """backpropd on a folder of its own, with the models that are measured."""

    def __init__(self, *flags):
        self.folder = tempfile.mkdtemp(prefix="backpropd-bench-")
        port_file = self.folder + "/port"
        super().__init__([BUILD + "/backpropd", "--listen", "127.0.0.1:0", "--data",
                          self.folder + "/data", "--port-file", port_file, *flags],
                         port_file=port_file, log=self.folder + "/log")

    def end(self):
        super().end()
        shutil.rmtree(self.folder)


class Hello(Server):
    def __init__(self):
        folder = tempfile.mkdtemp(prefix="backpropd-bench-")
        super().__init__([BUILD + "/tests/bench/hello", folder + "/port"], port_file=folder + "/port")
        shutil.rmtree(folder)


class Peer(Server):
    def __init__(self):
        port = free_port()
        super().__init__([PYTHON, BENCH + "/peer_fastapi.py", str(port), str(os.cpu_count())],
                         address="127.0.0.1:%d" % port)
