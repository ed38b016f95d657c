"""The deployments of a folder, opened in this process with all that they take."""

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
from penstock.serving.deployments.attested import Gate, standing
from penstock.serving.deployments.choice import Chooser, Decision
from penstock.serving.deployments.cluster import FLEET, SERVER, Cluster, open_cluster
from penstock.serving.deployments.commands import OPTIONS, SIMULATED
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import USUAL, Care, Dependencies
from penstock.serving.deployments.deployments import DeployIntent, Deployment
from penstock.serving.deployments.engines import Engines, SimulatedEngines
from penstock.serving.deployments.monitor import used_bytes
from penstock.serving.deployments.profiling import Profiler
from penstock.serving.deployments.requests import make_queue
from penstock.serving.deployments.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a folder: ``queue`` as in ``line.KINDS``, how long an engine may take to start
    and to answer, how long to wait for another process that has the folder."""

    queue: str = "penstock"
    start_s: float = 600.0
    answer_s: float = 600.0
    patience_s: float = 10.0
    care: Care = USUAL


@asynccontextmanager
async def opened(folder: Path, opening: Opening = Opening(),
                 on_bug: Callable[[str], None] = lambda _: None) -> AsyncIterator[Controller]:
    """The controller of a folder, for as long as the context lasts; engines go on after it.

    Raises InputError for a folder without deployments, InUseError where another
    process has them.
    """
    from penstock.serving.deployments.processes import process_engines

    cluster = open_cluster(folder)
    store = open_store(cluster.state_file, opening.patience_s)
    try:
        # Who has the store is who answers: an address that is still there is of a killed server.
        (cluster.folder / SERVER).unlink(missing_ok=True)
        _check_devices(cluster, store)
        async with process_engines(cluster, start_s=opening.start_s,
                                   answer_s=opening.answer_s) as processes:
            engines: dict[str, Engines] = dict.fromkeys(OPTIONS, processes)
            engines[SIMULATED] = SimulatedEngines(asyncio.sleep, lasting=True)
            chooser = Chooser(cluster)

            async def choose(one: Deployment, intent: DeployIntent, devices: list[Device],
                             neighbours: list[Neighbour]) -> Decision:
                # Learning from tables takes seconds: others go on meanwhile.
                return await asyncio.to_thread(chooser.decide, one, intent, devices, neighbours)

            async def read_used(one: Deployment) -> Mapping[int, int]:
                return await asyncio.to_thread(used_bytes, cluster, one)

            async def known(now_s: float) -> Mapping[int, Confidentiality]:
                return await asyncio.to_thread(standing, cluster, now_s)

            gate = Gate(known, time.time)
            devices = {device.device_id: device for device in cluster.devices()}
            dependencies = Dependencies({kind: gate.before(one, devices) for kind, one
                                         in engines.items()},
                          gate.choosing(choose), Profiler(cluster).profile, time.time, read_used,
                          on_bug)
            control = Controller(cluster, store, dependencies, make_queue(opening.queue),
                                 opening.care)
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
    """Look after the deployments again and again, until cancelled, whatever goes wrong with one."""
    while True:
        try:
            await control.reconcile()
        except Exception as error:
            on_bug(trace_of(error))
        await asyncio.sleep(period_s)
