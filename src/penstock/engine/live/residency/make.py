"""The driver of a pool, as the fleet file has it, with an actuator for each of its engines."""

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import aiohttp

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass
from penstock.engine.live.residency.actuator import Actuator
from penstock.engine.live.residency.driver import ResidencyDriver
from penstock.engine.live.residency.process import ProcessActuator, ProcessCommand
from penstock.engine.live.residency.turns import Rules
from penstock.engine.residency import devices_of, policy_of
from penstock.fleet.values_residency import DevicePool, SwappedModel


def driver_of(pool: DevicePool, classes: Iterable[ServiceClass], session: aiohttp.ClientSession,
              folder: Path, loop: asyncio.AbstractEventLoop,
              note: Callable[[str], None] = lambda _: None) -> ResidencyDriver:
    """The driver. Engines that are processes have their logs in ``folder``, which is made, and run
    in the folder around it. Raises InputError for a model without an engine."""
    actuators = [[actuator_of(pool, model, device, session, folder) for model in pool.models]
                 for device in range(pool.count)]
    rules = Rules(pool.load_timeout_s, pool.load_attempts, pool.set_apart_s, pool.max_queue,
                  pool.max_wait_s)
    return ResidencyDriver(policy_of(pool, classes), devices_of(pool), actuators, rules, loop, note)


def actuator_of(pool: DevicePool, model: SwappedModel, device: int,
                session: aiohttp.ClientSession, folder: Path) -> Actuator:
    """What loads and unloads a model on a device of a pool."""
    engine = model.engine
    if engine is None:
        raise InputError(f"residency: {pool.name}: {model.spec.name} has no engine, which serving "
                         "it needs; expected for example engine: {kind: vllm, endpoints: "
                         "[http://127.0.0.1:8001]}")
    name = engine.served_as or model.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    command = ProcessCommand(engine.command, name, engine.environment, folder.parent)
    return ProcessActuator(command, device, folder,
                           _file_name(f"{pool.name}-{device}-{model.spec.name}"), session)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)
