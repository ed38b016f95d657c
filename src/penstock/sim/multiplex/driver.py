"""Simulation of a single pool of multiplexed devices."""

from collections.abc import Sequence
from math import inf

from penstock.core.errors import InputError
from penstock.core.units import to_ps
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Queued
from penstock.sim.cycles import no_cycle_search
from penstock.sim.in_order import check_in_order
from penstock.sim.kernel import NEVER_PS, Arrivals, Kernel
from penstock.sim.multiplex.continuous import Residents
from penstock.sim.multiplex.machine import Machine
from penstock.sim.multiplex.pool import MultiplexedPool
from penstock.sim.multiplex.record import MultiplexRun, Recorder


class _QueuedRequests(Arrivals):
    """Requests for one pool, known in advance, as a stream of arrivals."""

    def __init__(self, requests: Sequence[Queued], moments_ps: list[int],
                 pool: MultiplexedPool) -> None:
        super().__init__()
        self._requests = requests
        self._moments_ps = moments_ps
        self._pool = pool
        self.num_delivered = 0
        self._show_due()

    def deliver(self, now_ps: int) -> int:
        self._pool.arrive(self._requests[self.num_delivered], now_ps)
        self.num_delivered += 1
        self._show_due()
        return self._pool.number

    def _show_due(self) -> None:
        following = self.num_delivered
        self.due_ps = self._moments_ps[following] if following < len(self._moments_ps) else NEVER_PS


class MultiplexSimulation:
    """One run of a single pool. ``policy``, ``devices``, ``machine`` and ``residents`` are
    arguments of ``MultiplexedPool``."""

    def __init__(self, policy: Multiplexer, devices: Sequence[Device], machine: Machine,
                 residents: Sequence[Residents] = ()) -> None:
        if any(device.continuous != bool(residents) for device in devices) or (
                residents and len(residents) != len(devices)):
            raise InputError(f"{len(devices)} devices and {len(residents)} sets of residents: "
                             "expected one for each continuous device, and no static ones beside")
        self._policy = policy
        self._devices = devices
        self._machine = machine
        self._residents = residents

    def run(self, requests: Sequence[Queued], until_s: float = inf) -> MultiplexRun:
        """Serve requests in order of arrival, whose ids must be their places, until no event is
        left, or until ``until_s``. Requests that have not ended then have no end.

        Raises InputError for requests out of order, and NotPossibleError for a policy that requests
        an impossible action.
        """
        check_in_order((one.request_id, one.arrival_s) for one in requests)
        record = Recorder(len(requests))
        pool = MultiplexedPool(0, self._policy, self._devices, self._machine, self._residents,
                               record)
        arrivals = _QueuedRequests(requests, [to_ps(one.arrival_s) for one in requests], pool)
        with no_cycle_search():
            Kernel([pool], arrivals).run(
                until_ps=NEVER_PS if until_s == inf else to_ps(until_s))
        for request in requests[arrivals.num_delivered:]:
            record.arrived(request)  # received after the end of the run
        return pool.run()
