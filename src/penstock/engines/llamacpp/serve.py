"""Runs a llama.cpp engine with its server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from penstock import __version__
from penstock.core.units import ceil_div
from penstock.engines.embedded.calibrate import Calibrator
from penstock.engines.embedded.fields import ServiceClasses
from penstock.engines.embedded.options import (
    EmbeddedOptions,
    limited,
    new_journal,
    schedule_document,
)
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.engines.http import listening
from penstock.engines.llamacpp.backend import LlamaBackend
from penstock.engines.llamacpp.device import KvPrecision, LlamaDevice
from penstock.engines.llamacpp.engine import SteppedEngine
from penstock.engines.llamacpp.executor import PlanExecutor
from penstock.engines.server.metrics import EngineMetrics
from penstock.engines.server.server import EngineServer, Service
from penstock.perf.step_time.store import has_document, step_time_document
from penstock.policy.kv.counting import CountingKv
from penstock.registry.make import build_scheduler

BLOCK_TOKENS = 16
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class LlamaSettings:
    """A model file and the limits of its engine. ``port`` 0 picks a free port."""

    model: Path
    name: str
    kv_tokens: int = 8192
    max_num_seqs: int = 16
    max_step_tokens: int = 512
    num_threads: int = 2
    kv_precision: KvPrecision = "f16"
    host: str = "127.0.0.1"
    port: int = 0


@asynccontextmanager
async def llama_engine(settings: LlamaSettings, options: EmbeddedOptions,
                       on_bug: Callable[[str], None] = lambda _: None
                       ) -> "AsyncIterator[tuple[str, SteppedEngine, asyncio.Task[None]]]":
    """Yield the engine's URL, the engine and its task. The engine runs until the context ends.

    ``on_bug`` gets the traceback of an error that the client did not cause. Raises InputError for a
    model that cannot be loaded, a missing extra and an unavailable port.
    """
    device = await asyncio.to_thread(
        LlamaDevice, settings.model, settings.kv_tokens, settings.max_num_seqs,
        settings.max_step_tokens, settings.num_threads, settings.kv_precision)
    driver = _embedded_scheduler(settings, options, device)
    metrics = EngineMetrics(settings.name)
    engine = SteppedEngine(driver, PlanExecutor(device, settings.max_num_seqs), metrics)
    _watch(metrics, driver)
    classes = options.classes or (options.default_class,)
    service = Service(settings.name, _longest(device), classes, options.default_class,
                      f"penstock {__version__}")
    backend = LlamaBackend(engine, device, ServiceClasses(classes, options.default_class))
    server = EngineServer(backend, service, metrics, on_bug)
    task: asyncio.Task[None] = asyncio.create_task(engine.run())
    try:
        async with listening(server.app(), settings.host, settings.port, _SHUTDOWN_S) as url:
            yield url, engine, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        driver.close()
        device.close()


def _longest(device: LlamaDevice) -> int:
    """Return the tokens of the longest request: the model's context in whole blocks of the
    cache."""
    return min(device.context_tokens, device.kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS)


def _embedded_scheduler(settings: LlamaSettings, options: EmbeddedOptions,
                        device: LlamaDevice) -> EmbeddedScheduler:
    kv_blocks = device.kv_tokens // BLOCK_TOKENS
    schedule = limited(options.schedule, settings.max_num_seqs, settings.max_step_tokens, kv_blocks,
                       ceil_div(_longest(device), BLOCK_TOKENS))
    scheduler = build_scheduler(schedule, options.step_time, CountingKv(kv_blocks, BLOCK_TOKENS))
    header: dict[str, Any] = {
        "replica": options.replica, "schedule": schedule_document(schedule),
        "kv_tokens": kv_blocks * BLOCK_TOKENS, "block_tokens": BLOCK_TOKENS,
        "prefix_caching": False, "max_in_flight": 1}
    if has_document(options.step_time):  # others come from the fleet file on replay
        header["step_time"] = step_time_document(options.step_time)
    journal = None if options.journal is None else new_journal(options.journal, 0, header)
    return EmbeddedScheduler(scheduler, monotonic, journal, Calibrator() if options.calibrate
                             else None)


def _watch(metrics: EngineMetrics, driver: EmbeddedScheduler) -> None:
    scheduler = driver.scheduler
    metrics.watch("vllm:num_requests_running", "Requests that hold KV.",
                  lambda: scheduler.num_running)
    metrics.watch("vllm:num_requests_waiting", "Requests that hold none.",
                  lambda: scheduler.num_waiting)
    metrics.watch("vllm:kv_cache_usage_perc", "KV in use, 0 to 1.",
                  lambda: scheduler.kv_used_tokens / scheduler.kv_total_tokens)
