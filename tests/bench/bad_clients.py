#!/usr/bin/env python3
"""What other clients feel while some misbehave.

    python3 tests/bench/bad_clients.py [--seconds 8] [--build build] [attack...]

Starts a daemon and asks it for predictions over a kept connection, one after the other: alone for
some seconds, then as long while an attack runs in processes of its own, then alone again. Prints a
table: p50 and p99 alone (of the better half of both) and under attack, their ratio, the daemon's
resident memory, and what the attackers were answered. The target is a p99 within 2 times.

The attackers share the machine with the daemon: what both take of its cores counts as well. So with
--control a column has the ratio when two processes only burn the CPU that they took.
"""
import argparse
import collections
import gzip
import multiprocessing
import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import tempfile
import time

MODEL = b'{"inputs":[{"shape":[-1,64]}],"layers":[{"op":"linear","out_features":64},{"op":"relu"},' \
        b'{"op":"linear","out_features":10}],"loss":{"op":"cross_entropy"}}'
INFER = b'{"inputs":[[' + b','.join(b'%.3f' % (i / 64) for i in range(64)) + b']]}'


def request(method, path, body=b'', more=b''):
    return b'%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s' % (
        method, path, len(body), more, body)


BOMB = request(b'POST', b'/v2/autograd', gzip.compress(b' ' * (1 << 30), 6),
               b'Content-Encoding: gzip\r\n')  # 1 MB, of 1 GB


def connect(address):
    s = socket.create_connection(address, timeout=60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def answer(s):
    """Status and body of one answer."""
    data = b''
    while b'\r\n\r\n' not in data:
        part = s.recv(65536)
        if not part:
            return 0, data
        data += part
    head, body = data.split(b'\r\n\r\n', 1)
    length = next(int(h.split(b':')[1]) for h in head.split(b'\r\n') if h.lower().startswith(b'content-length:'))
    while len(body) < length:
        body += s.recv(1 << 20)
    return int(head.split(b' ', 2)[1]), body


# ---- attacks: each runs until it is ended, and puts what it is answered into `seen` ---------------

def keep_open(address, n, begin, drip, every, seen, half=False):
    """n connections that send `begin`, and then a byte of `drip` now and then; closed ones again.
    `half`: they end their side after that."""
    selector = selectors.DefaultSelector()

    def fresh():
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(address)
        selector.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE, [False])

    def lost(key):
        selector.unregister(key.fileobj)
        key.fileobj.close()

    last = time.monotonic()
    while True:
        open_now = len(selector.get_map())
        for _ in range(min(n - open_now, 200)):
            fresh()
        for key, events in selector.select(0.01):
            s, state = key.fileobj, key.data
            try:
                if events & selectors.EVENT_READ:
                    data = s.recv(4096)
                    seen[data[9:12].decode() if data else 'closed'] += 1
                    if not data:
                        lost(key)
                        continue
                if events & selectors.EVENT_WRITE and not state[0]:
                    state[0] = True
                    if begin:
                        s.send(begin)
                    if half:
                        s.shutdown(socket.SHUT_WR)
                    selector.modify(s, selectors.EVENT_READ, state)
            except OSError:
                seen['reset'] += 1
                lost(key)
        if drip and time.monotonic() - last > every:
            last = time.monotonic()
            for key in list(selector.get_map().values()):
                if key.data[0]:
                    try:
                        key.fileobj.send(drip)
                    except OSError:
                        pass


def again(address, send, seen, pause=0.0):
    """A connection, `send(socket)`, its answer; over and over."""
    while True:
        try:
            s = connect(address)
            send(s)
            s.settimeout(10)
            data = s.recv(4096)
            seen[data[9:12].decode() if data else 'closed'] += 1
            s.close()
        except OSError:
            seen['reset'] += 1
        time.sleep(pause)


POST = b'POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\n'


def slow_headers(a, seen):
    keep_open(a, 500, b'GET /v2 HTTP/1.1\r\nHost: localhost\r\nA: ', b'b', 1, seen)


def slow_bodies(a, seen):
    keep_open(a, 500, POST + b'Content-Length: 1000000\r\n\r\n{', b' ', 1, seen)


def endless_chunks(a, seen):
    def send(s):
        chunk = b'10000\r\n' + b' ' * 65536 + b'\r\n'
        s.sendall(POST + b'Transfer-Encoding: chunked\r\n\r\n')
        for _ in range(100000):
            s.sendall(chunk)
    again(a, send, seen)


def half_open(a, seen):
    keep_open(a, 500, POST + b'Content-Length: 1000\r\n\r\n{', b'', 0, seen, half=True)


def brackets(a, seen):
    body = b'[' * (100 << 20)

    def send(s):
        s.sendall(POST + b'Content-Length: %d\r\n\r\n' % len(body))
        s.sendall(body)
    again(a, send, seen)


def header_flood(a, seen):
    flood = b'GET /v2 HTTP/1.1\r\nHost: localhost\r\n' + b''.join(b'A%d: b\r\n' % i for i in range(20000))
    again(a, lambda s: s.sendall(flood), seen)


def pipelining(a, seen):
    many = request(b'GET', b'/v2/health/live') * 500

    def send(s):
        s.sendall(many)
        got = 0
        while got < 500:
            got += s.recv(1 << 20).count(b'HTTP/1.1 200')
        s.sendall(b'GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    again(a, send, seen)


def smuggling(a, seen):
    again(a, lambda s: s.sendall(POST + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
          seen, 0.001)


def connections(a, seen):
    keep_open(a, 10000, b'', b'', 0, seen)


def one_byte_a_second(a, seen):
    sockets = []
    for _ in range(20):
        s = connect(a)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(request(b'POST', b'/v2/models/wide/infer', b'{"inputs":[[1]]}'))
        sockets.append(s)
    while True:
        for s in sockets:
            try:
                s.setblocking(False)
                seen['byte' if s.recv(1) else 'closed'] += 1
            except BlockingIOError:
                pass
            except OSError:
                seen['reset'] += 1
        time.sleep(1)


def gzip_bomb(a, seen):
    again(a, lambda s: s.sendall(BOMB), seen)


ATTACKS = [slow_headers, slow_bodies, endless_chunks, half_open, brackets, header_flood, pipelining,
           smuggling, connections, one_byte_a_second, gzip_bomb]


class Seen(collections.Counter):
    """Counts that a process hands over when it is ended."""


def attack_main(attack, address, path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seen = Seen()

    def end(*_):
        with open(path, 'w') as f:
            f.write(' '.join('%s:%d' % x for x in seen.most_common(4)))
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    attack(address, seen)


def burn_main(share):
    """`share` of a core, in turns of a millisecond."""
    while True:
        begin = time.perf_counter()
        while time.perf_counter() < begin + 0.001 * share:
            pass
        if share < 0.99:
            time.sleep(0.001 * (1 - share))


# ---- measuring -----------------------------------------------------------------------------------

def measure(address, seconds):
    """Latencies in ms of predictions, one every millisecond or so, sorted."""
    s = connect(address)
    body = request(b'POST', b'/v2/models/m/infer', INFER)
    latencies = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        s.sendall(body)
        status, _ = answer(s)
        assert status == 200, status
        latencies.append((time.perf_counter() - begin) * 1e3)
        time.sleep(random.uniform(0, 0.002))
    s.close()
    return sorted(latencies)


def at(latencies, share):
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


def resident(pid):
    with open('/proc/%d/status' % pid) as f:
        return int(next(line for line in f if line.startswith('VmRSS')).split()[1]) / 1024


def cpu_seconds(pid):
    with open('/proc/%d/stat' % pid) as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def run(attack, daemon, address, args, folder):
    alone = measure(address, args.seconds)
    path = os.path.join(folder, 'seen')
    p = multiprocessing.Process(target=attack_main, args=(attack, address, path))
    p.start()
    time.sleep(2)
    begin = cpu_seconds(p.pid), cpu_seconds(daemon.pid)
    under = measure(address, args.seconds)
    shares = [min(1, (cpu_seconds(pid) - was) / args.seconds) for pid, was in zip((p.pid, daemon.pid), begin)]
    memory = resident(daemon.pid)
    p.terminate()
    p.join()
    time.sleep(1)
    after = measure(address, args.seconds)
    best = min(alone, after, key=lambda x: at(x, 0.99))
    ratio = at(under, 0.99) / at(best, 0.99)
    control = ''
    if args.control:
        burners = [multiprocessing.Process(target=burn_main, args=(share,)) for share in shares]
        for b in burners:
            b.start()
        time.sleep(0.5)
        control = '%.1f' % (at(measure(address, args.seconds), 0.99) / at(best, 0.99))
        for b in burners:
            b.terminate()
            b.join()
    with open(path) as f:
        seen = f.read()
    print('| %-17s | %5d | %5.2f | %6.2f | %5.2f | %6.2f | %5.1f | %6s | %4.0f%% | %4.0f%% | %5.0f | %s |' % (
        attack.__name__, len(under), at(best, 0.5), at(best, 0.99), at(under, 0.5), at(under, 0.99), ratio,
        control, shares[0] * 100, shares[1] * 100, memory, seen), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=float, default=8)
    parser.add_argument('--build', default='build')
    parser.add_argument('--control', action='store_true')
    parser.add_argument('attacks', nargs='*')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port_file = os.path.join(folder, 'port')
        daemon = subprocess.Popen(
            [os.path.join(args.build, 'backpropd'), '--listen', '127.0.0.1:0', '--data',
             os.path.join(folder, 'data'), '--port-file', port_file, '--request-timeout', '5',
             '--log-level', 'off'])
        while not os.path.exists(port_file):
            time.sleep(0.02)
        host, port = open(port_file).read().strip().rsplit(':', 1)
        address = host, int(port)
        s = connect(address)
        s.sendall(request(b'PUT', b'/v2/models/m', MODEL))
        assert answer(s)[0] == 201
        s.sendall(request(b'PUT', b'/v2/models/wide', b'{"inputs":[{"shape":[-1,1]}],"layers":'
                          b'[{"op":"linear","out_features":300000}]}'))
        assert answer(s)[0] == 201
        s.close()
        measure(address, 2)
        print('| attack            | asked | alone p50 | p99 | attacked p50 | p99 ms | ratio | only CPU | its CPU | daemon CPU | MB | answers |')
        print('|' + 12 * ' --- |', flush=True)
        try:
            for attack in ATTACKS:
                if not args.attacks or attack.__name__ in args.attacks:
                    run(attack, daemon, address, args, folder)
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == '__main__':
    main()
