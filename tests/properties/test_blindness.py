"""Laws of blindness: no decision depends on what a live system could not know yet.

Each example is run in two worlds with the same files, beliefs and arrivals. What is hidden differs:
output lengths, durations of steps, starts, batches and loads, whether loads fail, the memory that
engines take. Until the disclosure, the first moment at which a live system would see a difference,
all that policies are shown and all that they decide is the same. Policies come from the tables of
names, so a new policy is covered.

Each law also has to fail for a policy that peeks. Multiplexing has a file of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from math import inf
from pkgutil import iter_modules
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock.policy.queue
from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.settings import Flag, Word
from penstock.core.snapshot import ReplicaSnapshot
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.clock import StepClock
from penstock.policy.place.reservations import Reservations
from penstock.policy.place.values import Device as Accelerator
from penstock.policy.place.values import Footprint, Placement
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.policy.queue.values import Shared, Start, Waiting
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import Router
from penstock.policy.route.simple import RoundRobin
from penstock.predict.length import HistoryLengths
from penstock.registry.axis import Axis
from penstock.registry.make import build_scheduler, make_dispatch, make_placer
from penstock.registry.policies import ADMISSIONS, PLACERS, ROUTERS, SCHEDULES
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.exclusive import Dispatch, serve
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.scheduler_runs import header, make_kv
from support.small_routing import LARGE, SMALL, expected, fact
from support.strategies import (
    Case,
    cases,
    footprints,
    fragmented_devices,
)
from support.worlds import (
    AS_BELIEVED,
    LENGTHS_ONLY,
    TWISTS,
    Twist,
    World,
    assert_blind,
    fails,
    implementations,
)

# A low quantile follows from the first answers on, so that an answer seen too early shows.
CASES = cases(SCHEDULES.names()).map(
    lambda case: replace(case, options=replace(case.options, length_quantile=0.1)))


@st.composite
def other_lengths(draw: st.DrawFn, case: Case) -> dict[int, int]:
    """Other true lengths for some requests, none longer than its client allows."""
    return {request.request_id: draw(st.one_of(
        st.just(case.output_tokens[request.request_id]), st.integers(1, request.max_tokens)))
        for request in case.requests}


def hidden(case: Case, lengths: dict[int, int]) -> list[int]:
    """Requests whose lengths differ."""
    return [number for number, length in lengths.items() if length != case.output_tokens[number]]


# -- schedule: a request ends, or a step that takes longer or shorter -----------------------------


class SeenLengths:
    """A length predictor that notes in a replica's journal which answers the scheduler learns."""

    def __init__(self, stream: BytesIO) -> None:
        self._stream = stream
        self._lengths = HistoryLengths()  # held, not inherited: it may be compiled

    def observe(self, key: str, output_tokens: int) -> None:
        self._stream.write(orjson.dumps({"kind": "observe", "tokens": output_tokens}) + b"\n")
        self._lengths.observe(key, output_tokens)

    def quantile(self, key: str, q: float) -> float:
        return self._lengths.quantile(key, q)

    def mean(self, key: str) -> float:
        return self._lengths.mean(key)


def replica_of(case: Case, number: int, lengths: dict[int, int], twist: Twist, stream: BytesIO,
               believed_factor: float = 1.0, *, jumps: bool = False) -> SimReplica:
    believed = BiasedStepTime(case.step_time, believed_factor)
    scheduler = build_scheduler(case.options, believed, make_kv(case), SeenLengths(stream))
    clock = StepClock(case.step_time, None if jumps else twist.factors())
    return SimReplica(number, scheduler, clock, Oracle(lengths), ReplicaRecorder(to_ps(1.0)),
                      Journal(stream, header(case)))


def read(world: World, number: int, stream: BytesIO, *, steps: bool) -> None:
    """What a replica's journal says of its steps and of the requests that ended."""
    for record in map(orjson.loads, stream.getvalue().splitlines()):
        if record["kind"] == "commit":
            world.ends_s.update(dict.fromkeys(record["finished"], record["now_s"]))
            if steps:
                world.took(number, record["now_s"])


def scheduled(case: Case, lengths: dict[int, int], twist: Twist,
              believed_factor: float = 1.0) -> World:
    """One replica, step by step: a jump is many steps in one plan, of as many as the truth says."""
    world, stream = World(), BytesIO()
    replica = replica_of(case, 0, lengths, twist, stream, believed_factor)
    dispatcher = Dispatcher(RoundRobin(), [replica], [ReplicaSpec("m")], lambda *_: None)
    Cluster([replica], dispatcher, lambda *_: None).run(InOrder(case.requests))
    learnt: list[int] = []
    for record in map(orjson.loads, stream.getvalue().splitlines()):
        if record["kind"] == "observe":
            learnt.append(record["tokens"])
        elif record["kind"] != "header":
            told = record.get("plan") or record.get("request")
            world.decided(record["now_s"], (told, tuple(learnt)))
    read(world, 0, stream, steps=True)
    return world


@given(st.data(), CASES, st.one_of(LENGTHS_ONLY, TWISTS))
def test_schedules_are_blind(data: st.DataObject, case: Case, twist: Twist) -> None:
    lengths = data.draw(other_lengths(case))
    assert_blind(scheduled(case, case.output_tokens, AS_BELIEVED),
                 scheduled(case, lengths, twist), hidden(case, lengths))


def test_a_schedule_that_knows_how_long_steps_really_take_is_caught() -> None:
    @given(cases(("penstock",)))
    def law(case: Case) -> None:
        assert_blind(scheduled(case, case.output_tokens, AS_BELIEVED),
                     scheduled(case, case.output_tokens, Twist(20, 4.0), believed_factor=4.0))

    assert fails(law)


# -- route and admit: the same on any replica -----------------------------------------------------

SEATS = (SMALL, SMALL, LARGE)
FACTS = [fact(number, offer) for number, offer in enumerate(SEATS)]


class SeenRouter:
    """A router whose choices are noted with what it was shown. With ``peeks``, it takes another
    replica than chosen where it knows that the answer is long."""

    def __init__(self, router: Router, world: World, peeks: dict[int, int] | None = None) -> None:
        self._router = router
        self._world = world
        self._peeks = peeks

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        route = self._router.route(request, replicas, now_s)
        if self._peeks is not None and self._peeks[request.request_id] > 20:
            route = route.replace(replica_id=replicas[-1].replica_id)
        self._world.decided(now_s, (request.request_id, replicas, route))
        return route

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


@st.composite
def chosen(draw: st.DrawFn, axis: Axis) -> tuple[str, dict[str, Any]]:
    """A policy by name, with words and flags among its settings."""
    name = draw(st.sampled_from(axis.names()))
    return name, {key: draw(st.sampled_from(setting.words)) if isinstance(setting, Word)
                  else draw(st.booleans()) for key, setting in axis.entry(name).settings.items()
                  if isinstance(setting, Word | Flag) and draw(st.booleans())}


@st.composite
def routed_cases(draw: st.DrawFn) -> Case:
    """Requests for one model or for any, some with forecasts."""
    case = draw(CASES)
    requests = [one._replace(model=draw(st.sampled_from(("", "", "small", "large"))),
                             forecasts=expected(tokens=draw(st.sampled_from((3.0, 40.0)))))
                if draw(st.booleans()) else one for one in case.requests]
    return replace(case, requests=tuple(requests))


def routed(case: Case, lengths: dict[int, int], twist: Twist, router: tuple[str, dict[str, Any]],
           admit: str, explore: float, *, peeks: bool = False) -> World:
    world = World()
    streams = [BytesIO() for _ in SEATS]
    jumps = twist.factor == 1.0
    replicas = [replica_of(case, number, lengths, twist, stream, jumps=jumps)
                for number, stream in enumerate(streams)]
    made = make_dispatch(router, (admit, {}), RouterContext(FACTS, Random(0).randrange), explore)
    dispatcher = Dispatcher(SeenRouter(made, world, lengths if peeks else None), replicas,
                            [ReplicaSpec(offer.model) for offer in SEATS], lambda *_: None)
    Cluster(replicas, dispatcher, lambda *_: None).run(InOrder(case.requests))
    for number, stream in enumerate(streams):
        read(world, number, stream, steps=not jumps)
    return world


@pytest.mark.parametrize("admit", ADMISSIONS.names())
@given(data=st.data(), case=routed_cases(), router=chosen(ROUTERS),
       twist=st.one_of(LENGTHS_ONLY, TWISTS), explore=st.sampled_from((0.0, 0.0, 0.3)))
def test_routers_and_admission_are_blind(admit: str, data: st.DataObject, case: Case,
                                         router: tuple[str, dict[str, Any]], twist: Twist,
                                         explore: float) -> None:
    lengths = data.draw(other_lengths(case))
    as_believed = replace(twist, first=10**9)  # steps one by one in both worlds, or in neither
    assert_blind(routed(case, case.output_tokens, as_believed, router, admit, explore),
                 routed(case, lengths, twist, router, admit, explore), hidden(case, lengths))


def test_a_router_that_knows_true_lengths_is_caught() -> None:
    @given(st.data(), routed_cases(), chosen(ROUTERS))
    def law(data: st.DataObject, case: Case, router: tuple[str, dict[str, Any]]) -> None:
        lengths = data.draw(other_lengths(case))
        one, other = (routed(case, each, AS_BELIEVED, router, "all", 0.0, peeks=True)
                      for each in (case.output_tokens, lengths))
        assert_blind(one, other, hidden(case, lengths))

    assert fails(law)


# -- devices that serve one start at a time: a start ends that takes longer or shorter ------------

QUEUES = implementations([import_module(f"{penstock.policy.queue.__name__}.{found.name}")
                          for found in iter_modules(penstock.policy.queue.__path__)],
                         "add", "next", "ended", "cancel")


class SeenQueue:
    """A queue whose starts are noted."""

    def __init__(self, queue: ExclusiveDeviceQueue, world: World) -> None:
        self._queue = queue
        self._world = world

    def next(self, now_s: float) -> Start | None:
        start = self._queue.next(now_s)
        self._world.decided(now_s, start)
        return start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


@st.composite
def shared_cases(draw: st.DrawFn) -> tuple[list[Shared], list[Waiting]]:
    """Deployments on up to 4 devices, and requests in order of arrival."""
    sets = st.frozensets(st.integers(0, 3), min_size=1, max_size=2)
    device_sets = st.lists(sets, min_size=1, max_size=2)
    shared = draw(st.lists(st.builds(
        Shared, device_sets.map(tuple), st.sampled_from((0.5, 2.0, 30.0)), st.integers(1, 3),
        st.booleans()), min_size=2, max_size=4))
    arrivals = sorted(draw(st.lists(st.integers(0, 8), min_size=8, max_size=25)))
    return shared, [Waiting(place, draw(st.integers(0, len(shared) - 1)), at / 8.0,
                            draw(st.integers(0, 2)), draw(st.sampled_from((inf, at / 8.0 + 9.0))),
                            draw(st.booleans())) for place, at in enumerate(arrivals)]


def shared_out(queue: ExclusiveDeviceQueue, shared: Sequence[Shared], requests: Sequence[Waiting],
               twist: Twist) -> World:
    world, factor = World(), twist.factors()

    def work_s(start: Start) -> float:
        seconds = shared[start.deployment].expected_s * factor()
        world.took("devices", world.decisions[-1][0] + seconds)
        return seconds

    serve(requests, SeenQueue(queue, world), work_s, Dispatch([0.0] * len(shared)))
    return world


@pytest.mark.parametrize("queue", QUEUES)
@given(case=shared_cases(), twist=TWISTS)
def test_queues_before_shared_devices_are_blind(
        queue: Callable[[Sequence[Shared]], ExclusiveDeviceQueue],
        case: tuple[list[Shared], list[Waiting]], twist: Twist) -> None:
    shared, requests = case
    assert_blind(shared_out(queue(shared), shared, requests, AS_BELIEVED),
                 shared_out(queue(shared), shared, requests, twist))


def test_a_queue_that_knows_how_long_starts_really_take_is_caught() -> None:
    @given(shared_cases())
    def law(case: tuple[list[Shared], list[Waiting]]) -> None:
        shared, requests = case
        true = [replace(one, expected_s=4.0 * one.expected_s) for one in shared]
        assert_blind(shared_out(DeviceSetQueue(shared), shared, requests, AS_BELIEVED),
                     shared_out(DeviceSetQueue(true), shared, requests, Twist(3, 4.0)))

    assert fails(law)


# -- placement: the devices are read on which an engine takes more --------------------------------


def placed(policy: tuple[str, dict[str, Any]], devices: Sequence[Accelerator],
           wanted: Sequence[Footprint], sample: int, extra_bytes: int, *,
           peeks: bool = False) -> World:
    """Replicas start one after another, and hold what was reserved. Their engines take
    ``extra_bytes`` more on each device, which a monitor reads before the start of ``sample``."""
    world, placer, ledger = World(), make_placer(*policy), Reservations(devices)
    taken = {device.device_id: 0 for device in devices}
    for number, footprint in enumerate(wanted):
        if number == sample or peeks:
            for device in devices:
                used = device.used_bytes + taken[device.device_id]
                world.took("monitor", float(sample), used)
                ledger.observe(replace(device, used_bytes=used))
        free = ledger.devices()
        found = placer.place(footprint, free)
        world.decided(float(number), (free, found))
        if isinstance(found, Placement) and not hasattr(
                ledger.reserve(str(number), found), "reason"):
            for device_id, held in found.bytes_by_device.items():
                taken[device_id] += held + extra_bytes
    return world


PLACED = (chosen(PLACERS), fragmented_devices(), st.lists(footprints(), min_size=2, max_size=5),
          st.integers(1, 5), st.integers(1, 4))


@given(*PLACED)
def test_placers_are_blind(policy: tuple[str, dict[str, Any]], devices: list[Accelerator],
                           wanted: list[Footprint], sample: int, extra_bytes: int) -> None:
    assert_blind(placed(policy, devices, wanted, sample, 0),
                 placed(policy, devices, wanted, sample, extra_bytes))


def test_a_placer_that_knows_what_engines_will_take_is_caught() -> None:
    @given(*PLACED)
    def law(policy: tuple[str, dict[str, Any]], devices: list[Accelerator],
            wanted: list[Footprint], sample: int, extra_bytes: int) -> None:
        assert_blind(placed(policy, devices, wanted, sample, 0, peeks=True),
                     placed(policy, devices, wanted, sample, extra_bytes, peeks=True))

    assert fails(law)
