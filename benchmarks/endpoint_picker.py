"""Speed of the endpoint picker: decisions per second on one core, and the latency that it adds.

The picker runs in a process of its own, on one core, before ten emulated engines. The gateway's
side is simulated by this process on another core: real gRPC and the published messages, and the
HTTP answers of engines are made up, since the gateway would carry those.

    python benchmarks/endpoint_picker.py [--requests 3000]
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import orjson
from common import REPOSITORY, show

from penstock.serving.endpoint_picker import external_processor as ext_proc

NUM_ENGINES = 10
FLEET = """\
name: picker
accelerators: [{name: a100-80gb, count: 64}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic:
  - {lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: 60}
replicas: [{count: %d}]
policies: {schedule: penstock, route: %s}
"""
ANSWER = orjson.dumps({"choices": [{"text": "hi", "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 200, "completion_tokens": 100}})


def request_of(prompt_tokens: int) -> list[ext_proc.ProcessingRequest]:
    """The messages of one request, whose body comes in pieces as Envoy reads them."""
    head = ext_proc.ProcessingRequest()
    for name, value in {":method": "POST", ":path": "/v1/completions", ":authority": "models",
                        "content-type": "application/json", "user-agent": "bench",
                        "x-request-id": "b"}.items():
        head.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    body = orjson.dumps({"model": "llama-3.1-8b", "prompt": "abc " * prompt_tokens,
                         "max_tokens": 100})
    pieces = [body[start:start + 32_768] for start in range(0, len(body), 32_768)]
    return [head, *(ext_proc.ProcessingRequest(request_body=ext_proc.HttpBody(
        body=piece, end_of_stream=number == len(pieces) - 1))
        for number, piece in enumerate(pieces))]


def answer_messages() -> list[ext_proc.ProcessingRequest]:
    head = ext_proc.ProcessingRequest()
    for name, value in {":status": "200", "content-type": "application/json"}.items():
        head.response_headers.headers.headers.add(key=name, raw_value=value.encode())
    return [head, ext_proc.ProcessingRequest(response_body=ext_proc.HttpBody(
        body=ANSWER, end_of_stream=True))]


async def one(process, request, answer) -> float:
    """Seconds from the body's end to the last piece of it in reply."""
    call = process()
    for message in request[:-1]:
        await call.write(message)
    begun_s = time.perf_counter()
    await call.write(request[-1])
    while True:
        reply = await call.read()
        assert reply is not grpc.aio.EOF, await call.details()
        assert reply.WhichOneof("response") != "immediate_response", reply
        if reply.request_body.response.body_mutation.streamed_response.end_of_stream:
            break
    added_s = time.perf_counter() - begun_s
    for message in answer:
        await call.write(message)
        await call.read()
    await call.done_writing()
    await call.read()
    return added_s


async def load(address: str, prompt_tokens: int, requests: int, workers: int) -> list[float]:
    request, answer = request_of(prompt_tokens), answer_messages()
    async with grpc.aio.insecure_channel(address) as channel:
        process = ext_proc.client(channel)
        left = iter(range(requests))

        async def work() -> list[float]:
            return [await one(process, request, answer) for _ in left]

        return [s for part in await asyncio.gather(*(work() for _ in range(workers)))
                for s in part]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines()
                if one.startswith(field))
    return int(line.split()[1]) / 1024


def measured(address: str, pid: int, prompt_tokens: int, requests: int, workers: int) -> dict:
    asyncio.run(load(address, prompt_tokens, max(50, requests // 10), workers))  # warm
    before_s, begun_s = cpu_s(pid), time.perf_counter()
    added = sorted(asyncio.run(load(address, prompt_tokens, requests, workers)))
    used_s, wall_s = cpu_s(pid) - before_s, time.perf_counter() - begun_s
    return {"prompt_tokens": prompt_tokens, "concurrent": workers, "requests": requests,
            "per_s": round(requests / wall_s), "picker_cores": round(used_s / wall_s, 2),
            "per_core_s": round(requests / used_s),
            "added_ms": {f"p{p}": round(1000 * added[min(len(added) - 1, len(added) * p // 100)], 2)
                         for p in (50, 95, 99)},
            "picker_mb": round(memory_mb(pid))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--route", default="least_loaded")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fleet.yaml").write_text(FLEET % (NUM_ENGINES, options.route))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}

        def run(*arguments: str) -> subprocess.Popen:
            return subprocess.Popen([sys.executable, "-m", "penstock", *arguments], cwd=folder,
                                    env=environment, stdout=subprocess.PIPE, text=True)

        engines = run("emulate", "fleet.yaml", "--port", "0")
        urls = [engines.stdout.readline().split()[1] for _ in range(NUM_ENGINES)]
        picker = run("endpoint-picker", "fleet.yaml", "--port", "0", "--metrics-port", "0",
                     "--drain-s", "1", "--set", f"replicas[0].endpoints={json.dumps(urls)}")
        try:
            address = picker.stdout.readline().split()[1]
            for thread in Path(f"/proc/{picker.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores[:1])
            os.sched_setaffinity(0, cores[1:] or cores)
            time.sleep(1.0)
            idle_s = cpu_s(picker.pid)
            time.sleep(5.0)
            idle = round((cpu_s(picker.pid) - idle_s) / 5.0, 3)
            found = [measured(address, picker.pid, tokens, requests, workers)
                     for tokens, requests, workers in (
                         (200, options.requests, 1), (200, options.requests, 32),
                         (1000, options.requests, 1), (1000, options.requests, 32),
                         (100_000, options.requests // 10, 1),
                         (100_000, options.requests // 10, 8))]
        finally:
            for started in (picker, engines):
                started.kill()
                started.wait()
    show({"route": options.route, "load_average": os.getloadavg()[0], "idle_cores": idle,
          "own_cpu_s": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 1),
          "measured": found})


if __name__ == "__main__":
    main()
