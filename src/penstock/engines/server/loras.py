"""Adapters (LoRA) of an engine that Penstock drives, with vLLM's endpoints and its metric."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.engines.http_body import read_body, read_json
from penstock.engines.server.errors import ApiError


class Loras(Collector):
    """Adapters that are loaded at run time. Of those with requests, ``max_loras`` run and the
    others wait, in the order of their first request."""

    def __init__(self, model: str, max_loras: int,
                 wall_s: Callable[[], float] = time.time) -> None:
        self._model = model
        self._max_loras = max_loras
        self._wall_s = wall_s
        self._paths: dict[str, str] = {}
        self._users: Counter[str] = Counter()

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload)]

    def paths(self) -> dict[str, str]:
        """Return the paths of the loaded adapters by their names."""
        return dict(self._paths)

    @contextmanager
    def used(self, name: str) -> Iterator[None]:
        """Count a request for an adapter. A name that is not an adapter's does not count."""
        if name not in self._paths:
            yield
            return
        self._users[name] += 1
        try:
            yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]

    async def _load(self, http: web.Request) -> web.Response:
        name, path = await _fields(http, "lora_name", "lora_path")
        if name in self._paths:
            raise ApiError(400, f"The lora adapter '{name}' has already been loaded.")
        if name == self._model:
            raise ApiError(400, f"'{name}' is the name of the model.")
        if Path(path).is_absolute() and not Path(path).exists():
            raise ApiError(404, f"Loading lora {name} failed: no adapter found at {path}")
        self._paths[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, http: web.Request) -> web.Response:
        (name,) = await _fields(http, "lora_name")
        if self._paths.pop(name, None) is None:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    def collect(self) -> Iterator[Metric]:
        """Return vLLM's metric of adapters with requests; its value is the time of day."""
        names = list(self._users)
        info = GaugeMetricFamily("vllm:lora_requests_info", "Running stats on lora requests.",
                                 labels=("max_lora", "waiting_lora_adapters",
                                         "running_lora_adapters"))
        info.add_metric((str(self._max_loras), ",".join(names[self._max_loras:]),
                         ",".join(names[:self._max_loras])), self._wall_s())
        yield info


async def _fields(http: web.Request, *names: str) -> list[str]:
    try:
        document = read_json(await read_body(http))
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    found = [document.get(name) if isinstance(document, dict) else None for name in names]
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, str) or not value:
            raise ApiError(400, f"{name}: expected a text", name)
    return [str(value) for value in found]
