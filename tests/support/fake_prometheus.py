"""A Prometheus server on the loopback that answers with the series that a test sets."""

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from penstock.engines.http import listening


def engine_samples(pod, *, finished=0, running=0, waiting=0, kv=0.1, model="m", at_s=0.0,
                   prompt_tokens=None, output_tokens=None, instance=None):
    """Series of one vLLM engine as a range of one sample each."""
    values = {"vllm:num_requests_running": running, "vllm:num_requests_waiting": waiting,
              "vllm:kv_cache_usage_perc": kv, "vllm:request_success_total": finished,
              "vllm:prompt_tokens_total": 100 * finished if prompt_tokens is None
              else prompt_tokens,
              "vllm:generation_tokens_total": 10 * finished if output_tokens is None
              else output_tokens}
    return [matrix_sample({"__name__": name, "model_name": model, "pod": pod,
                           "instance": instance or f"{pod}:8000"}, value, at_s)
            for name, value in values.items() if value is not None]


def matrix_sample(labels, value, at_s):
    return {"metric": labels, "values": [[at_s, str(value)]]}


@dataclass
class FakePrometheus:
    """What the server knows: engines, counters of arrivals, targets that are down, and its time.

    ``answer`` replaces every answer, where it is set.
    """

    engines: list = field(default_factory=list)
    arrivals: list = field(default_factory=list)
    down: list = field(default_factory=list)
    clock: object = time.time
    answer: object = None
    queries: list = field(default_factory=list)
    headers: list = field(default_factory=list)

    def result(self, query):
        """Return kind and result of a query."""
        if query == "time()":
            return "scalar", [self.clock(), str(self.clock())]
        if query.startswith("up"):
            return "vector", [{"metric": labels, "value": [self.clock(), "0"]}
                              for labels in self.down]
        return "matrix", self.engines if query.startswith("{") else self.arrivals

    async def handle(self, request):
        query = request.query["query"]
        self.queries.append(query)
        self.headers.append(request.headers)
        if self.answer is not None:
            return await self.answer(request)
        kind, result = self.result(query)
        return web.json_response({"status": "success",
                                  "data": {"resultType": kind, "result": result}})

    @asynccontextmanager
    async def server(self):
        """Yield the URL of the server."""
        app = web.Application()
        app.router.add_get("/api/v1/query", self.handle)
        async with listening(app, "127.0.0.1", 0, 0.1) as url:
            yield url
