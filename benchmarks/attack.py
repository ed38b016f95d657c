"""What an attacker costs everybody else: the longest wait for /health, and memory above idle.

`python benchmarks/attack.py [--source CHECKOUT] [--seconds S]`: starts `penstock serve` of a
checkout (this one, unless told) before emulated and hostile engines, and attacks it with one bomb
after the other, on loopback alone. /health is asked every 20 ms by a process of its own.
"""

import argparse
import gzip
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import REPOSITORY, show

FLEET = """\
accelerators: [{{name: a100-80gb, count: 8}}]
models: [{{name: llama-3-8b}}, {{name: llama-3-70b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2}}}}, {{name: batch, priority: 3}}]
gateway: {{tenants: [{{name: shop}}]}}
replicas:
  - {{count: 1, model: llama-3-8b, endpoints: ["{well}"]}}
  - {{count: 1, model: llama-3-70b, parallelism: {{tensor: 4}}, endpoints: ["{hostile}"]}}
traffic:
  - {{model: auto, lengths: {{prompt: {{fixed: 40}}, output: {{fixed: 40}}}}, rate_per_s: 5,
     num_requests: 10, mix: {{chat: 1}}}}
policies: {{route: least_loaded}}
"""
PROBE = """
import http.client, sys, time
host = sys.argv[1]
while True:
    start = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=100)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except OSError:
        pass
    connection.close()
    print(time.perf_counter() - start, flush=True)
    time.sleep(0.02)
"""
JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}


def packed_zeros(num_bytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(2**20)
    return b"".join(packer.compress(piece) for _ in range(num_bytes // 2**20)) + packer.flush()


class Hostile(BaseHTTPRequestHandler):
    """An engine that answers with a gzip bomb of 344 MB."""

    bomb = b""

    def do_GET(self) -> None:
        self._answer(b"", {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.bomb, PACKED)

    def _answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Target:
    """A running gateway: its address, a tenant's and an administrator's key, and its process."""

    def __init__(self, url: str, key: str, admin: str, process: int) -> None:
        self.host = urlsplit(url).netloc
        self.key = {"Authorization": f"Bearer {key}"}
        self.admin = {"Authorization": f"Bearer {admin}"}
        self.process = process

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(self.host, timeout=100)
            connection.request("POST", path, body, headers)
            connection.getresponse().read()
            connection.close()

    def raw(self, content: bytes, hold_s: float = 0.0) -> None:
        with suppress(OSError), socket.create_connection(
                tuple(self.host.rsplit(":", 1)), timeout=10) as one:  # type: ignore[arg-type]
            one.sendall(content)
            time.sleep(hold_s)
            one.settimeout(2)
            one.recv(65536)

    def resident_mb(self, what: str = "VmRSS") -> float:
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return int(next(one for one in lines if one.startswith(what)).split()[1]) / 1024


Bomb = Callable[[Target, float], None]


def at_once(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bombs() -> dict[str, Bomb]:
    zeros = packed_zeros(2 * 2**30)
    parts = gzip.compress(b'{"messages":[' + b"{}," * 10_000_000 + b"{}]}")
    text = b'{"prompt":"x","z":"' + b'\\"' * (8 * 2**20 - 100) + b'"}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    def idle(_: Target, seconds: float) -> None:
        time.sleep(seconds)

    def without_a_key(target: Target, _: float) -> None:
        for path in ("/v1/completions", "/v1/chat/completions", "/no/such/path", "/health",
                     "/v1/plan"):
            target.post(path, zeros, PACKED)

    def many_parts(target: Target, _: float) -> None:
        at_once(*[lambda: target.post("/v1/chat/completions", parts, PACKED | target.key)] * 4)

    def largest_bodies(target: Target, _: float) -> None:
        at_once(*[lambda: target.post("/v1/completions", text, JSON | target.key)] * 4)

    def engines_bomb(target: Target, _: float) -> None:
        for stream in (False, True):
            target.post("/v1/completions", json.dumps({
                "model": "llama-3-70b", "prompt": "x", "stream": stream}).encode(),
                JSON | target.key)

    def headers(target: Target, _: float) -> None:
        floods = (head + b"X: y\r\n" * 100_000, head + b"X: " + b"y" * 2**22,
                  b"GET /" + b"a" * 2**22, b"\r\n" * 2**20, b"\x00" * 2**20)
        at_once(*[lambda one=one: target.raw(one) for one in floods * 6])

    def slow(target: Target, seconds: float) -> None:
        halves = (head, head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        at_once(*[lambda one=one: target.raw(one, seconds) for one in halves * 250])

    return {"idle": idle, "2 GiB packed, no key, 5 paths": without_a_key,
            "4 bodies of 10 million parts": many_parts,
            "4 bodies of 16 MB, escaped": largest_bodies,
            "an engine's bomb of 344 MB": engines_bomb, "floods of headers": headers,
            "500 slow connections": slow}


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def started(source: Path, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", *arguments], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(source / "src")}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL)


@contextmanager
def target(source: Path) -> Iterator[Target]:
    Hostile.bomb = packed_zeros(344 * 2**20)
    hostile = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=hostile.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "engine.yaml").write_text(
            "accelerators: [{name: a100-80gb, count: 4}]\nmodels: [{name: llama-3-8b}]\n"
            "service_classes: [{name: chat, slo: {ttft_s: 2}}]\nreplicas: [{count: 1}]\n"
            "traffic: [{lengths: {prompt: {fixed: 40}, output: {fixed: 40}}, rate_per_s: 5, "
            "num_requests: 10}]\n")
        engine = started(source, folder, "emulate", "engine.yaml", "--port", "0", "--speed", "1000")
        (folder / "fleet.yaml").write_text(FLEET.format(
            well=line_of(engine).split()[1], hostile=f"http://127.0.0.1:{hostile.server_port}"))
        keys = [subprocess.run(
            [sys.executable, "-m", "penstock", "keys", "create", "fleet.yaml", of], cwd=folder,
            check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(source / "src")}).stdout.strip()
            for of in ("shop", "--admin")]
        gateway = started(source, folder, "serve", "fleet.yaml", "--port", "0")
        try:
            yield Target(line_of(gateway).split()[1], *keys, gateway.pid)
        finally:
            for one in (gateway, engine):
                one.kill()
                one.wait()
            hostile.shutdown()


def under(bomb: Bomb, at: Target, seconds: float) -> dict[str, float]:
    """The waits for /health and the highest memory while a bomb goes off."""
    probe = subprocess.Popen([sys.executable, "-c", PROBE, at.host], stdout=subprocess.PIPE,
                             text=True)
    waits: list[float] = []
    assert probe.stdout is not None
    line_of(probe)
    reader = threading.Thread(target=lambda: waits.extend(map(float, probe.stdout or ())))
    reader.start()
    idle_mb, highest_mb, over = at.resident_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest_mb
        while not over.is_set():
            highest_mb = max(highest_mb, at.resident_mb())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began_s = time.perf_counter()
    bomb(at, seconds)
    took_s = time.perf_counter() - began_s
    num_waits, until_s = len(waits), time.perf_counter() + 100
    while len(waits) <= num_waits + 10 and time.perf_counter() < until_s:
        time.sleep(0.1)  # the wait that began during the attack counts, too
    over.set()
    watcher.join()
    probe.kill()
    reader.join()
    probe.wait()
    return {"worst_health_s": round(max(waits), 3), "median_health_s": round(
        statistics.median(waits), 4), "peak_above_idle_mb": round(highest_mb - idle_mb, 1),
        "took_s": round(took_s, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, default=REPOSITORY)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    for name, bomb in bombs().items():
        with target(chosen.source) as at:
            found[name] = under(bomb, at, chosen.seconds)
        print(f"{name:32s} {found[name]}", file=sys.stderr, flush=True)
    show({"source": str(chosen.source), "load_average": os.getloadavg()[0], "bombs": found})


if __name__ == "__main__":
    main()
