"""Many models on few devices, as tests have them: a machine by table, a drawn case, and a policy
and devices that are watched at every call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penstock.core.attestation import NOT_KNOWN, Confidentiality
from penstock.policy.multiplex.attested import OnlyAttested
from penstock.policy.multiplex.beliefs import LoadBelief, LoadTable
from penstock.policy.multiplex.build import ORDERS, MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Action, Batch, HostedModel, Queued, Shed
from penstock.published.sincere.policy import STRATEGIES, LoadRow, Sincere, SincereSettings
from penstock.registry.make import make_multiplexer
from penstock.registry.policies import MULTIPLEXERS
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import Machine, Took
from penstock.sim.multiplex.record import MultiplexRun
from support.faulty_machine import Faults, FaultyMachine

NO_FAULTS = Faults()


PENSTOCK = "penstock"
POLICIES = (PENSTOCK, *ORDERS)
"""Policies for any number of devices and models."""
ALL_POLICIES = MULTIPLEXERS.names()


def multiplexing(name: str, models: Sequence[HostedModel], loads: LoadBelief,
              settings: Mapping[str, Any] | None = None) -> Multiplexer:
    """A policy by name."""
    return make_multiplexer(name, settings or {}, MultiplexContext(models, loads))


@dataclass(frozen=True, slots=True)
class TableMachine:
    """Loads by a table, batches by the models' lines, and a device taken for ``after_s`` after."""

    models: Sequence[HostedModel]
    loads_s: Sequence[float]
    after_s: float = 0.0

    def load(self, device: int, model: int, now_s: float) -> Took:
        return Took(self.loads_s[model])

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(0.5 * self.loads_s[model])

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        line = self.models[batch.model].batch
        return Took(line.seconds(len(batch.requests)), after_s=self.after_s)


@dataclass(frozen=True, slots=True)
class MultiplexCase:
    """A policy by name, what it believes, what is there, what comes and what goes wrong;
    ``confidential`` requests by id, and what is known of the ``devices`` for their sake."""

    policy: str
    models: Sequence[HostedModel]
    loads_s: Sequence[float]
    memories: Sequence[int]
    max_residents: int | None
    requests: Sequence[Queued]
    faults: Faults = NO_FAULTS
    shed: bool = False
    seed: int = 0
    after_s: float = 0.0
    confidential: frozenset[int] = frozenset()
    devices: Confidentiality = NOT_KNOWN

    def machine(self) -> FaultyMachine:
        """What loads and batches really take, and what goes wrong."""
        return FaultyMachine(TableMachine(self.models, self.loads_s, self.after_s), self.faults,
                             np.random.default_rng(self.seed))

    def run(self, machine: Machine | None = None,
            see: Callable[[Multiplexer], Multiplexer] = lambda policy: policy) -> "Watched":
        """The case from its beginning until nothing happens any more; on another machine, and with
        the policy behind another that sees its calls, where these are given."""
        sincere = SincereSettings(
            20.0, [3] * len(self.models), [LoadRow(4.0, 1.0, 0.1, 0.0)] * len(self.models),
            max_batch=None if self.models[0].max_batch >= 2**31 else self.models[0].max_batch)
        if self.policy in STRATEGIES:
            policy: Multiplexer = Sincere(STRATEGIES[self.policy], sincere)
        else:
            settings = {} if self.policy == PENSTOCK else {"shed": self.shed, "quantum_s": 5.0}
            policy = multiplexing(self.policy, self.models, LoadTable(self.loads_s), settings)
        if self.confidential:
            policy = OnlyAttested(policy, self.devices, self.confidential)
        devices = [Device(index, memory, self.models, max_residents=self.max_residents)
                   for index, memory in enumerate(self.memories)]
        watched = Watched(see(policy), self.requests)
        watched.run = MultiplexSimulation(watched, devices, machine or self.machine()).run(
            self.requests)
        return watched


def check(device: Device) -> None:
    """What a device holds is possible."""
    assert device.free_bytes >= 0
    held = device.held_bytes(device.residents)
    if device.loading is not None:
        held += device.models[device.loading].size_bytes
    assert device.free_bytes == device.memory_bytes - held
    present = len(device.residents) + (device.loading is not None)
    assert device.max_residents is None or present <= device.max_residents
    assert device.loading not in device.residents
    for model, one in device.residents.items():
        assert 0 <= one.num_running <= device.models[model].max_batch


@dataclass(slots=True)
class Watched:
    """A policy, and what its calls say of every request: where it is, and how often it ended.

    Every change of a device is followed by a call, so looking at each sees all that devices hold.
    """

    policy: Multiplexer
    requests: Sequence[Queued]
    place: dict[int, str] = field(default_factory=dict)
    now_s: float = -float("inf")
    run: MultiplexRun = field(init=False)

    @property
    def num_waiting(self) -> int:
        return self.policy.num_waiting

    def add(self, request: Queued, now_s: float) -> None:
        self._tick(now_s)
        assert request.arrival_s == now_s
        assert request.request_id not in self.place
        self.place[request.request_id] = "waits"
        self.policy.add(request, now_s)

    def next(self, device: Device, now_s: float) -> Action:
        self._tick(now_s)
        check(device)
        action = self.policy.next(device, now_s)
        if isinstance(action, Shed):
            assert action.reason
            assert action.requests
            self._move(action.requests, "waits", "shed")
        elif isinstance(action, Batch):
            assert {one.model for one in action.requests} == {action.model}
            self._move(action.requests, "waits", "runs")
        return action

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._tick(now_s)
        check(device)
        self.policy.loaded(device, model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        self._tick(now_s)
        self.policy.prefetched(device, model, now_s)

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._tick(now_s)
        check(device)
        self._move(batch.requests, "runs", "waits" if failed else "served")
        self.policy.ended(device, batch, now_s, failed=failed)

    def cancel(self, request_id: int) -> bool:
        return self.policy.cancel(request_id)

    def _tick(self, now_s: float) -> None:
        assert now_s >= self.now_s
        self.now_s = now_s

    def _move(self, requests: Sequence[Queued], before: str, after: str) -> None:
        for request in requests:
            assert self.place[request.request_id] == before
            self.place[request.request_id] = after
