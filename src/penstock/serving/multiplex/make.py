"""The driver of a pool, as the fleet file has it, with an actuator for each of its engines."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import aiohttp

from penstock.core.errors import InputError
from penstock.engines.actuators.process import ProcessActuator, ProcessCommand
from penstock.engines.actuators.protocol import Actuator
from penstock.engines.llamacpp.router_actuator import LlamaServerActuator
from penstock.engines.ollama.actuator import OllamaActuator
from penstock.engines.vllm.actuator import VllmActuator
from penstock.fleet.multiplex_factory import devices_of, policy_of
from penstock.fleet.values import Fleet
from penstock.fleet.values_residency import DevicePool, SwapEngine, SwappedModel
from penstock.serving.multiplex.driver import ResidencyDriver
from penstock.serving.multiplex.tickets import Rules


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Environment in which engines are started. Those that are processes have their logs in
    ``folder``, which is made, and run in the folder around it. ``note`` is told what an operator
    should know."""

    session: aiohttp.ClientSession
    folder: Path
    loop: asyncio.AbstractEventLoop
    note: Callable[[str], None]


def driver_of(fleet: Fleet, pool: DevicePool, around: Surroundings) -> ResidencyDriver:
    """The driver. Raises InputError for a model without an engine."""
    actuators = [[actuator_of(fleet, pool, model, device, around) for model in pool.models]
                 for device in range(pool.count)]
    rules = Rules(pool.load_timeout_s, pool.load_attempts, set_apart_s=pool.set_apart_s,
                  max_queue=pool.max_queue, max_wait_s=pool.max_wait_s)
    return ResidencyDriver(policy_of(pool, fleet.service_classes), devices_of(pool), actuators,
                           rules, around.loop, around.note)


def actuator_of(fleet: Fleet, pool: DevicePool, model: SwappedModel, device: int,
                around: Surroundings) -> Actuator:
    """Return the actuator of a model on a device of a pool."""
    engine = model.engine
    if engine is None:
        raise InputError(f"residency: {pool.name}: {model.spec.name} has no engine, which serving "
                         "it needs; expected for example engine: {kind: vllm, endpoints: "
                         "[http://127.0.0.1:8001]}")
    name = engine.served_as or model.spec.name
    if engine.kind == "vllm":
        return VllmActuator(around.session, engine.endpoints[device], engine.sleep_level)
    if engine.kind == "ollama":
        return OllamaActuator(around.session, engine.endpoints[device], name)
    if engine.kind == "llama-server":
        return LlamaServerActuator(around.session, engine.endpoints[device], name)
    if engine.kind == "llamacpp":
        return _llamacpp(fleet, model, engine, name, around)
    around.folder.mkdir(parents=True, exist_ok=True)
    command = ProcessCommand(engine.command, name, engine.environment, around.folder.parent)
    return ProcessActuator(command, device, around.folder,
                           quote(f"{pool.name}-{device}-{model.spec.name}", safe=""),
                           around.session)


def _llamacpp(fleet: Fleet, model: SwappedModel, engine: SwapEngine, name: str,
              around: Surroundings) -> Actuator:
    from penstock.engines.embedded.options import InsideOptions
    from penstock.engines.llamacpp.actuator import LlamaCppActuator
    from penstock.engines.llamacpp.serve import LlamaSettings

    assert engine.file is not None, "the fleet file is read so"
    settings = LlamaSettings(Path(engine.file), name, max_num_seqs=model.max_batch)
    if engine.kv_tokens is not None:
        settings = replace(settings, kv_tokens=engine.kv_tokens)
    if engine.threads is not None:
        settings = replace(settings, num_threads=engine.threads)
    classes = fleet.service_classes
    return LlamaCppActuator(settings, InsideOptions(fleet.policies.schedule, classes, classes[0]),
                            around.note)
