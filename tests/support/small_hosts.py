"""Small hosts for tests of multiplexing: models of 10 bytes, loads and batches of round seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Queued
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import Took
from penstock.sim.multiplex.record import MultiplexRun
from support.multiplexing_cases import multiplexing

USUAL: Mapping[str, Any] = {}
LINE = BatchTime(1.0, 0.1)


def models(num: int, **changes: object) -> list[HostedModel]:
    one = HostedModel("m", 10, LINE, request_bytes=0, max_batch=16)
    return [replace(one, name=f"m{place}", **changes) for place in range(num)]  # type: ignore[arg-type]


def queued(arrivals: Sequence[tuple[float, int]], slack_s: float = inf) -> list[Queued]:
    return [Queued(place, model, at_s, at_s + slack_s)
            for place, (at_s, model) in enumerate(arrivals)]


class PlainMachine:
    """Loads of ``load_s``, batches by their line. ``failing_loads`` fail by their count from 0;
    batches of more than ``most`` run out of memory."""

    def __init__(self, hosted: Sequence[HostedModel], load_s: float = 5.0,
                 failing_loads: Sequence[int] = (), most: int = 2**31) -> None:
        self._hosted = hosted
        self._load_s = load_s
        self._failing = set(failing_loads)
        self._most = most
        self.num_loads = 0

    def load(self, device: int, model: int, now_s: float) -> Took:
        self.num_loads += 1
        return Took(self._load_s, self.num_loads - 1 in self._failing)

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(1.0)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        num = len(batch.requests)
        return Took(self._hosted[batch.model].batch.seconds(num), num > self._most)


def host(name: str, hosted: Sequence[HostedModel], arrivals: Sequence[Queued], *,
         memory_bytes: int = 15, num_devices: int = 1, machine: PlainMachine | None = None,
         settings: Mapping[str, Any] = USUAL, max_residents: int | None = None,
         load_s: float = 5.0) -> MultiplexRun:
    """A run of a policy by name."""
    policy: Multiplexer = multiplexing(name, hosted, LoadTable([load_s] * len(hosted)), settings)
    devices = [Device(index, memory_bytes, hosted, max_residents=max_residents)
               for index in range(num_devices)]
    return MultiplexSimulation(policy, devices,
                               machine or PlainMachine(hosted, load_s)).run(arrivals)
