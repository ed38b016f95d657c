"""Adapters (LoRA) of an engine that Penstock drives, with vLLM's endpoints and its metric."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.engines.http_body import read_body, read_json
from penstock.engines.server.errors import ApiError
from penstock.policy.schedule.adapters import AdapterStore


class Loras(Collector):
    """Adapters that are loaded at run time, by their names and paths. ``store`` has those that the
    engine's requests use. As in vLLM, an adapter that is unloaded keeps its memory until another
    needs that."""

    def __init__(self, model: str, store: AdapterStore,
                 wall_s: Callable[[], float] = time.time) -> None:
        self._model = model
        self._store = store
        self._wall_s = wall_s
        self._paths: dict[str, str] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload)]

    def paths(self) -> dict[str, str]:
        """Return the paths of the loaded adapters by their names."""
        return dict(self._paths)

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
        store = self._store
        waiting = [name for name in store.requests if name not in store.users]
        info = GaugeMetricFamily("vllm:lora_requests_info", "Running stats on lora requests.",
                                 labels=("max_lora", "waiting_lora_adapters",
                                         "running_lora_adapters"))
        info.add_metric((str(store.max_loras), ",".join(waiting), ",".join(store.users)),
                        self._wall_s())
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
