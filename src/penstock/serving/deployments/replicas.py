"""Replicas of one kind of accelerator that Penstock itself starts."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.stock import engine_adapter_wait_s
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.values_gateway import NO_GATEWAY_OPTIONS
from penstock.policy.place.beside import Neighbour
from penstock.policy.place.values import Device, Footprint, Infeasible
from penstock.policy.route.roles import BOTH
from penstock.registry.make import make_placer
from penstock.serving.deployments.choice import Decision
from penstock.serving.deployments.cluster import STATE, Cluster
from penstock.serving.deployments.commands import Command, command_of, emulate_command
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import Dependencies, RestartPolicy
from penstock.serving.deployments.deployments import (
    Backoff,
    DeployIntent,
    Deployment,
    Expected,
    Instance,
    RefusedError,
    State,
)
from penstock.serving.deployments.monitor import used_bytes
from penstock.serving.deployments.processes import process_engines
from penstock.serving.deployments.startable import KINDS, StartedReplica
from penstock.serving.deployments.store import InUseError, open_store

_RESTART_POLICY = RestartPolicy(backoff=Backoff(most=1000))  # never give a replica up
_LIVING = (State.RUNNING, State.UNHEALTHY)
_ORDERED = (*_LIVING, State.REGISTERED, State.FAILED)
"""States of replicas that a policy ordered: starts that a crash interrupted begin again."""


class StartedReplicas:
    """The started replicas of one kind of accelerator. ``adopted`` has the numbers of those that an
    earlier process ordered."""

    def __init__(self, fleet: Fleet, replicas: list[StartedReplica], control: Controller) -> None:
        self._fleet = fleet
        self._replicas = {one.name: one for one in replicas}
        self._by_number = {one.number: one for one in replicas}
        self._control = control
        self._leaving: set[int] = set()
        self.adopted: frozenset[int] = frozenset()

    async def start(self) -> None:
        """Adopt running replicas that match the file, stop the others, and start the missing ones
        that start with the fleet. Where a policy scales a group, the adopted replicas and those
        that were ordered are its first number. Raises InputError for a replica that does not
        start."""
        await self._control.recover()
        await asyncio.gather(*(
            self._control_removal(one.name) for one in self._control.deployments()
            if one.state != State.REMOVED and not self._fits(one)))
        self.adopted = frozenset(number for number in self._by_number
                                 if self.deployment(number) is not None)
        scaled = {self._by_number[number].group_number for number in self.adopted
                  } if self._fleet.scales else set()
        missing = [one for one in self._replicas.values()
                   if one.at_first and one.number not in self.adopted
                   and one.group_number not in scaled]
        await asyncio.gather(*map(self._begin_at_first, missing))
        for one in missing:
            found = await self._control.settled(one.name)
            if found.state != State.RUNNING:
                raise InputError(f"replicas: replica {one.number} ({one.group.engine}, "
                                 f"{one.group.model.name}): {found.reason}")

    async def look_after(self) -> None:
        """Check the health of every replica once, and restart those whose restart is due."""
        await self._control.reconcile()

    async def stop(self) -> None:
        """Ends all replicas."""
        await asyncio.gather(*(self._control_removal(one.name)
                               for one in self._control.deployments()
                               if one.state != State.REMOVED))

    def instances(self) -> dict[int, Instance]:
        """Return the engine of each replica that takes requests, by number. A replica that is down
        has its last engine."""
        return {self._replicas[one.name].number: one.instance
                for one in self._control.deployments()
                if one.name in self._replicas and one.instance is not None
                and self._replicas[one.name].number not in self._leaving}

    def has(self, number: int) -> bool:
        """Whether a replica belongs to this kind of accelerator."""
        return number in self._by_number

    def deployment(self, number: int) -> Deployment | None:
        """Return the deployment of a replica, None where there is none."""
        try:
            found = self._control.show(self._by_number[number].name)
        except InputError:
            return None
        return None if found.state == State.REMOVED else found

    def register(self, number: int) -> None:
        """Write down that a replica is ordered, so that the next process finds the order."""
        if self.deployment(number) is None:
            self._register(self._by_number[number])

    async def begin(self, number: int) -> None:
        """Begin to start a replica, anew where its start has failed. Raises RefusedError where no
        accelerator has room."""
        self._leaving.discard(number)
        one = self._by_number[number]
        found = self.deployment(number)
        if found is None:
            await self._begin(one)
        elif found.state in (State.REGISTERED, State.FAILED):
            await self._control.deploy(one.name, DeployIntent(configuration=one.configuration))

    def leave(self, number: int) -> None:
        """Give a replica no more requests."""
        self._leaving.add(number)

    async def end(self, number: int) -> None:
        """End a replica. Requests in progress are lost."""
        self._leaving.add(number)
        if self.deployment(number) is not None:
            await self._control_removal(self._by_number[number].name)

    def _fits(self, one: Deployment) -> bool:
        """Whether a deployment is registered and runs as the file states now, or is to run where a
        policy orders replicas."""
        asked = self._replicas.get(one.name)
        states = _ORDERED if self._fleet.scales else _LIVING
        return asked is not None and one.state in states and (
            one.model, one.engine, dict(one.options)) == (
            asked.group.model.name, KINDS[asked.group.engine],
            options_of(self._fleet, asked.group)) and (
            one.state == State.REGISTERED or one.configuration == asked.configuration)

    async def _begin_at_first(self, one: StartedReplica) -> None:
        try:
            await self._begin(one)
        except RefusedError as error:
            raise InputError(f"replicas: replica {one.number}: {error}") from error

    def _register(self, one: StartedReplica) -> None:
        group = one.group
        self._control.register(one.name, group.model.name, KINDS[group.engine],
                               options_of(self._fleet, group))

    async def _begin(self, one: StartedReplica) -> None:
        self._register(one)
        await self._control.deploy(one.name, DeployIntent(configuration=one.configuration))

    async def _control_removal(self, name: str) -> None:
        await self._control.remove(name, cancel=True)
        await self._control.settled(name)


def options_of(fleet: Fleet, group: ReplicaGroup) -> dict[str, Any]:
    """Return the options of a replica's engine. Raises InputError where the file lacks one."""
    if group.engine == "emulated":
        return {}
    choice = next(one for one in fleet.models if one.spec.name == group.model.name)
    model = group.served_as or (choice.config and str(Path(choice.config).parent))
    if not model:
        raise InputError(f"replicas: {group.model.name}: served_as: found nothing; expected the "
                         f"folder, file or name of the weights that {group.engine} is to load")
    if group.engine == "llamacpp":
        return {"model": model, **_seqs(fleet)}
    return {"model": model, "max_model_len": group.model.max_context_tokens,
            **({} if group.role == BOTH else {"role": group.role}), **_seqs(fleet),
            **({} if group.lora is None else _room(fleet, group, group.lora))}


def _room(fleet: Fleet, group: ReplicaGroup, lora: LoraOptions) -> dict[str, Any]:
    wait_s = engine_adapter_wait_s(group.schedule or fleet.policies.schedule, group.engine, None)
    return {"max_loras": lora.max_loras, "max_cpu_loras": lora.most_loaded,
            "max_rank": lora.max_rank, "evict": lora.evict,
            **({} if wait_s is None else {"adapter_wait_s": wait_s})}


def _seqs(fleet: Fleet) -> dict[str, int]:
    return {} if fleet.engine.max_num_seqs is None else {"max_num_seqs": fleet.engine.max_num_seqs}


@asynccontextmanager
async def replicas_of_kind(fleet: Fleet, replicas: list[StartedReplica], folder: Path,
                           note: Callable[[str], None]) -> AsyncIterator[StartedReplicas]:
    """Yield the replicas on one kind of accelerator, with their state in ``folder``. Raises
    InputError where another process has the folder open."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    cluster = Cluster(folder.resolve(), _alone(fleet, replicas))
    try:
        store = open_store(folder / STATE)
    except InUseError:
        raise InputError(f"{folder}: another penstock serve has this folder open") from None
    by_name = {one.name: one for one in replicas}

    def command(cluster: Cluster, one: Deployment, port: int) -> Command:
        if one.engine == "emulate":
            return emulate_command(cluster, one, port, by_name[one.name].group)
        return command_of(cluster, one, port)

    async def choose(one: Deployment, _: DeployIntent, devices: list[Device],
                     __: list[Neighbour]) -> Decision:
        return _placed(cluster, by_name[one.name], devices)

    async def read_used(one: Deployment) -> Mapping[int, int]:
        return await asyncio.to_thread(used_bytes, cluster, one)

    async with process_engines(cluster, command=command) as engines:
        control = Controller(cluster, store, Dependencies(dict.fromkeys(KINDS.values(), engines),
                                                          choose,
                                                _no_profile, time.time, read_used, note),
                             restart_policy=_RESTART_POLICY)
        try:
            yield StartedReplicas(fleet, replicas, control)
        finally:
            await control.close()


def _alone(fleet: Fleet, replicas: list[StartedReplica]) -> Fleet:
    """Return a fleet reduced to the replicas of one kind of accelerator."""
    pool = fleet.pool(replicas[0].group.accelerator.name)
    needed = sum(one.group.parallelism.num_accelerators for one in replicas)
    return replace(fleet, accelerators=(replace(pool, count=pool.count or needed),), replicas=(),
                   multiplexing=(), gateway=NO_GATEWAY_OPTIONS)


def _placed(cluster: Cluster, one: StartedReplica, devices: list[Device]) -> Decision:
    """Place a replica on accelerators of its own, with the engine's share of their memory."""
    group = one.group
    spread, layers = group.parallelism, group.model.num_layers
    bytes_each = int(cluster.fleet.engine.memory_fraction * cluster.accelerator.memory_bytes)
    footprint = Footprint(group.model.name, layers, spread.tensor, spread.pipeline, 1,
                          fixed_bytes=max(0, bytes_each - layers))
    placement = make_placer("penstock").place(footprint, devices)
    if isinstance(placement, Infeasible):
        raise RefusedError("no_room", placement.reason)
    return Decision(one.configuration, placement, Expected(None, None), {})


async def _no_profile(*_: object) -> str:
    raise InputError("replicas of a fleet file are not profiled")
