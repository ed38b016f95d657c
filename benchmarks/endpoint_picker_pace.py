"""Pace of the endpoint picker beside a bare echo: picks per second on one core, for 100 endpoints.

In turns, on the same core: a bare ``grpc.aio`` server that answers the same messages with ready
replies, and ``penstock endpoint-picker`` with prefix-aware routing. The other core has this
process, which sends, and one tiny server that stands for all endpoints: it answers on 100 addresses
of the loopback. Then both get half of the picker's pace, for the latency that they add: that of the
echo is due to gRPC, the sender and other work on the machine. The choice alone is measured in this
process.

    python benchmarks/endpoint_picker_pace.py [--requests 4000] [--rounds 5]
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import grpc
import orjson
from aiohttp import web
from common import REPOSITORY, show
from endpoint_picker import answer_messages, cpu_s, memory_mb, one, request_of

from penstock.serving.endpoint_picker import external_processor as ext_proc

NUM_ENGINES, PROMPT_TOKENS, NUM_PREFIXES, OPEN_AT_ONCE = 100, 1000, 50, 32
FLEET = f"""\
name: pace
accelerators: [{{name: a100-80gb, count: {NUM_ENGINES}}}]
models: [{{name: llama-3.1-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 400}}, output: {{fixed: 40}}}}, rate_per_s: 5, num_requests: 60}}
replicas: [{{count: {NUM_ENGINES}, engine: vllm}}]
policies: {{schedule: penstock, route: prefix_aware}}
"""
METRICS = """\
vllm:num_requests_running{model_name="llama-3.1-8b"} 3
vllm:num_requests_waiting{model_name="llama-3.1-8b"} 1
vllm:kv_cache_usage_perc{model_name="llama-3.1-8b"} 0.2
vllm:cache_config_info{block_size="16",num_gpu_blocks="20000"} 1
"""


def engines() -> None:
    """Serve health and metrics as vLLM does, on every address of the loopback."""
    async def answer(http: web.Request) -> web.Response:
        return web.Response(text=METRICS if http.path == "/metrics" else "")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{path}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "0.0.0.0", 0)
        await site.start()
        print("engines", runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


def echo() -> None:
    """Answer each stream as a picker does (the same number of replies, as long), without a
    thought. Messages are read and written as everywhere in gRPC."""
    def piece(kind: str, body: bytes) -> ext_proc.ProcessingResponse:
        reply = ext_proc.ProcessingResponse()
        streamed = getattr(reply, kind).response.body_mutation.streamed_response
        streamed.body, streamed.end_of_stream = body, True
        return reply

    head = ext_proc.ProcessingResponse()
    for name in ("x-gateway-destination-endpoint", "content-length"):
        one = head.request_headers.response.header_mutation.set_headers.add()
        one.header.key, one.header.raw_value = name, b"127.0.0.100:12345"
    answer_head = ext_proc.ProcessingResponse()
    answer_head.response_headers.SetInParent()

    async def process(messages, _context):
        async for message in messages:
            if (kind := message.WhichOneof("request")) == "request_body":
                yield head
                yield piece(kind, message.request_body.body)
            elif kind == "response_headers":
                yield answer_head
            elif kind == "response_body":
                yield piece(kind, message.response_body.body)

    async def run() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((ext_proc.handler(process),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"echo 127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()

    from penstock.engines.http import run_server
    run_server(run())


def requests_of(number: int) -> list[list[ext_proc.ProcessingRequest]]:
    """Requests whose prompts begin in one of ``NUM_PREFIXES`` ways."""
    found = []
    for which in range(number):
        messages = request_of(0)
        prompt = (f"{which % NUM_PREFIXES:04d}" * 500 + f"{which:04d}" * (PROMPT_TOKENS - 500))
        messages[-1].request_body.body = orjson.dumps(
            {"model": "llama-3.1-8b", "prompt": prompt, "max_tokens": 100})
        found.append(messages)
    return found


async def as_fast_as_possible(address: str, requests: list, number: int) -> list[float]:
    answer = answer_messages()
    async with grpc.aio.insecure_channel(address) as channel:
        process = ext_proc.client(channel)
        left = iter(range(number))

        async def work() -> list[float]:
            return [await one(process, requests[which % len(requests)], answer) for which in left]

        return [s for part in await asyncio.gather(*(work() for _ in range(OPEN_AT_ONCE)))
                for s in part]


async def paced(address: str, requests: list, number: int, rate_per_s: float) -> list[float]:
    """The time added to each request, which come in equal distances."""
    answer = answer_messages()
    async with grpc.aio.insecure_channel(address) as channel:
        process = ext_proc.client(channel)
        begun_s, open_ones = time.perf_counter(), []
        for which in range(number):
            await asyncio.sleep(max(0.0, begun_s + which / rate_per_s - time.perf_counter()))
            open_ones.append(asyncio.create_task(
                one(process, requests[which % len(requests)], answer)))
        return await asyncio.gather(*open_ones)


def pace(address: str, pid: int, requests: list, number: int) -> dict[str, float]:
    before_s, begun_s = cpu_s(pid), time.perf_counter()
    asyncio.run(as_fast_as_possible(address, requests, number))
    used_s, wall_s = cpu_s(pid) - before_s, time.perf_counter() - begun_s
    return {"per_s": number / wall_s, "per_cpu_s": number / used_s, "cores": used_s / wall_s}


def choice_us(urls: list[str], number: int) -> dict[str, float]:
    """CPU time of the choice alone, in this process: of the fleet's policy over all endpoints
    (``Chooser.choose``), and of everything from the parsed request to its addresses."""
    import numpy as np

    from penstock.engines.client.metrics_text import EngineLoad
    from penstock.engines.client.of_fleet import facts_of
    from penstock.engines.client.state import InFlight
    from penstock.engines.http_body import JsonBody
    from penstock.fleet.load import load_fleet
    from penstock.fleet.replica_factory import dispatch_of
    from penstock.serving.endpoint_picker.head import Head
    from penstock.serving.endpoint_picker.limits import PickerOptions
    from penstock.serving.endpoint_picker.running import books_of
    from penstock.serving.endpoint_picker.wishes import read_wish
    from penstock.serving.gateway.engines import Engines
    from penstock.serving.gateway.server import offer_of

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(FLEET)
        fleet = load_fleet(path, {"replicas[0].endpoints": urls})
    rng = np.random.default_rng(0)
    pool = Engines(facts_of(fleet))
    books = books_of(fleet, pool, dispatch_of(fleet, lambda n: int(rng.integers(n)),
                                              lambda _: 0.0), PickerOptions(), time.monotonic)
    for engine in pool:
        engine.observe(EngineLoad(num_running=3, num_waiting=1, kv_used_share=0.2),
                       time.monotonic())
    offer, wishes = offer_of(fleet), []
    for messages in requests_of(200):
        body = messages[-1].request_body.body
        wishes.append(read_wish(JsonBody(orjson.loads(body), len(body)),
                                Head({":path": "/v1/completions"}), offer))
    spent = {"choice": [], "pick": []}

    class Timed:
        def __init__(self, chooser) -> None:
            self._chooser = chooser
            self.open = chooser.open

        async def choose(self, *arguments):
            begun = time.thread_time_ns()
            found = await self._chooser.choose(*arguments)
            spent["choice"].append((time.thread_time_ns() - begun) / 1000)
            return found

    async def run() -> None:
        picker = books.picker
        picker.chooser = Timed(picker.chooser)
        open_ones = []
        for which in range(number):
            begun = time.thread_time_ns()
            pick = await picker.pick(wishes[which % len(wishes)], None)
            spent["pick"].append((time.thread_time_ns() - begun) / 1000)
            pick.engine.begin(pick.number, InFlight(pick.request.prompt_tokens, 100.0))
            open_ones.append(pick)
            if len(open_ones) > 200:
                gone = open_ones.pop(0)
                gone.engine.end(gone.number)

    asyncio.run(run())
    return {name: {"median": round(median(found), 1),
                   "p99": round(sorted(found)[len(found) * 99 // 100], 1)}
            for name, found in spent.items()}


@contextlib.contextmanager
def started(core: int, *command: str, cwd: str = ".") -> Iterator[tuple[str, int]]:
    """Yield the first line and the process id of a process that stays on one core."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(REPOSITORY / "src"), str(REPOSITORY / "benchmarks")])},
        preexec_fn=lambda: os.sched_setaffinity(0, [core]))
    try:
        yield process.stdout.readline(), process.pid
    finally:
        process.kill()
        process.wait()


def spread(found: list[float]) -> dict[str, float]:
    return {"least": round(min(found), 3), "median": round(median(found), 3),
            "most": round(max(found), 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=["engines", "echo"])
    options = parser.parse_args()
    if options.part is not None:
        {"engines": engines, "echo": echo}[options.part]()
        return
    own, other = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    os.sched_setaffinity(0, [other])
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        (Path(folder) / "fleet.yaml").write_text(FLEET)
        line, _ = stack.enter_context(started(other, __file__, "--part", "engines"))
        urls = [f"http://127.0.0.{1 + number}:{line.split()[1]}" for number in range(NUM_ENGINES)]
        echo_line, echo_pid = stack.enter_context(started(own, __file__, "--part", "echo"))
        line, pid = stack.enter_context(started(
            own, "-m", "penstock", "endpoint-picker", "fleet.yaml", "--port", "0",
            "--metrics-port", "0", "--set", f"replicas[0].endpoints={json.dumps(urls)}",
            cwd=folder))
        address, echo_address = line.split()[1], echo_line.split()[1]
        time.sleep(1.0)
        idle_s = cpu_s(pid)
        time.sleep(3.0)
        idle_cores = (cpu_s(pid) - idle_s) / 3.0
        requests = requests_of(200)
        for warm in (echo_address, address):
            asyncio.run(as_fast_as_possible(warm, requests, 500))
        rounds = [{"echo": pace(echo_address, echo_pid, requests, options.requests),
                   "picker": pace(address, pid, requests, options.requests)}
                  for _ in range(options.rounds)]
        half = median(one["picker"]["per_s"] for one in rounds) / 2
        added = {who: sorted(asyncio.run(paced(at, requests, int(10 * half), half)))
                 for who, at in (("echo", echo_address), ("picker", address))}
        memory = memory_mb(pid)
    show({"endpoints": NUM_ENGINES, "prompt_tokens": PROMPT_TOKENS, "open_at_once": OPEN_AT_ONCE,
          "load_average": os.getloadavg()[0], "idle_cores": round(idle_cores, 3),
          **{who: {unit: spread([one[who][unit] for one in rounds])
                   for unit in ("per_s", "per_cpu_s", "cores")} for who in ("echo", "picker")},
          "ratio": {unit: spread([one["picker"][unit] / one["echo"][unit] for one in rounds])
                    for unit in ("per_s", "per_cpu_s")},
          "half_load": {"per_s": round(half), "added_ms": {
              who: {f"p{p}": round(1000 * found[min(len(found) - 1, len(found) * p // 100)], 2)
                    for p in (50, 95, 99)} for who, found in added.items()}},
          "choice_us": choice_us(urls, 5000), "picker_mb": round(memory)})


if __name__ == "__main__":
    main()
