"""Opens the deployments of a folder in this process, with all their dependencies."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.core.attestation import Confidentiality
from penstock.core.errors import InputError
from penstock.engines.discreet_log import trace_of
from penstock.policy.place.beside import Neighbour
from penstock.policy.place.values import Device
from penstock.serving.deployments.attested import Gate, attestation_status
from penstock.serving.deployments.choice import Chooser, Decision
from penstock.serving.deployments.cluster import FLEET, SERVER, Cluster, open_cluster
from penstock.serving.deployments.commands import OPTIONS, SIMULATED
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import USUAL, Dependencies, RestartPolicy
from penstock.serving.deployments.deployments import DeployIntent, Deployment
from penstock.serving.deployments.engines import Engines, SimulatedEngines
from penstock.serving.deployments.monitor import used_bytes
from penstock.serving.deployments.profiling import Profiler
from penstock.serving.deployments.requests import make_queue
from penstock.serving.deployments.store import Store, open_store


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to open a folder: the kind of ``queue``, how long an engine may take to start and to
    answer, and how long to wait for another process to release the folder."""

    queue: str = "penstock"
    start_s: float = 600.0
    answer_s: float = 600.0
    lock_timeout_s: float = 10.0
    restart_policy: RestartPolicy = USUAL


@asynccontextmanager
async def opened(folder: Path, opening: OpenOptions = OpenOptions(),
                 on_bug: Callable[[str], None] = lambda _: None) -> AsyncIterator[Controller]:
    """Yield the controller of a folder until the context ends. Engines keep running after it.

    Raises InputError for a folder without deployments, InUseError where another process has the
    folder open.
    """
    from penstock.serving.deployments.processes import process_engines

    cluster = open_cluster(folder)
    store = open_store(cluster.state_file, opening.lock_timeout_s)
    try:
        # The process with the store is the server. An address that is still recorded belongs to a
        # server that was killed.
        (cluster.folder / SERVER).unlink(missing_ok=True)
        _check_devices(cluster, store)
        async with process_engines(cluster, start_s=opening.start_s,
                                   answer_s=opening.answer_s) as processes:
            engines: dict[str, Engines] = dict.fromkeys(OPTIONS, processes)
            engines[SIMULATED] = SimulatedEngines(asyncio.sleep, lasting=True)
            chooser = Chooser(cluster)

            async def choose(one: Deployment, intent: DeployIntent, devices: list[Device],
                             neighbours: list[Neighbour]) -> Decision:
                # Learning from tables takes seconds, so it runs in a thread.
                return await asyncio.to_thread(chooser.decide, one, intent, devices, neighbours)

            async def read_used(one: Deployment) -> Mapping[int, int]:
                return await asyncio.to_thread(used_bytes, cluster, one)

            async def known(now_s: float) -> Mapping[int, Confidentiality]:
                return await asyncio.to_thread(attestation_status, cluster, now_s)

            gate = Gate(known, time.time)
            devices = {device.device_id: device for device in cluster.devices()}
            dependencies = Dependencies({kind: gate.before(one, devices) for kind, one
                                         in engines.items()},
                          gate.choosing(choose), Profiler(cluster).profile, time.time, read_used,
                          on_bug)
            control = Controller(cluster, store, dependencies, make_queue(opening.queue),
                                 opening.restart_policy)
            await control.recover()
            try:
                yield control
            finally:
                await control.close()
    finally:
        store.close()


def _check_devices(cluster: Cluster, store: Store) -> None:
    known = {device.device_id for device in cluster.devices()}
    for one in store.deployments():
        for device_id in one.devices:
            if device_id not in known:
                raise InputError(f"{cluster.folder / FLEET}: deployment {one.name} is on "
                                 f"accelerator {device_id}; the fleet has {len(known)}, counted "
                                 "from 0")


async def watch(control: Controller, period_s: float, on_bug: Callable[[str], None]) -> None:
    """Supervise the deployments until cancelled. An error in one of them does not stop the
    others."""
    while True:
        try:
            await control.reconcile()
        except Exception as error:
            on_bug(trace_of(error))
        await asyncio.sleep(period_s)
