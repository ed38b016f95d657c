"""Blindness with adapters (LoRA): no plan and no route depends on what is hidden.

As in ``test_blindness``. Hidden are lengths of answers, durations of steps, and the time that
adapters take to load: a step that loads some ends sooner or later in the other world.
"""

from collections.abc import Sequence
from io import BytesIO
from random import Random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.perf.step_time.clock import StepClock
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import Router
from penstock.registry.make import build_scheduler, make_dispatch
from penstock.registry.policies import ROUTERS, SCHEDULES
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.adapter_cases import NAMES, ROOMS, adapted, store_of
from support.scheduler_runs import header, make_kv
from support.small_routing import SMALL, fact
from support.strategies import Case, cases
from support.worlds import (
    AS_BELIEVED,
    LENGTHS_ONLY,
    TWISTS,
    Twist,
    World,
    assert_blind,
    fails,
)

CASES = adapted(cases(SCHEDULES.names()))
Room = tuple[int, int]


class SeenRouter:
    """A router whose choices are noted, with the replicas among which it chose."""

    def __init__(self, router: Router, world: World) -> None:
        self._router = router
        self._world = world

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        route = self._router.route(request, replicas, now_s)
        self._world.decided(now_s, (request.request_id, replicas, route))
        return route

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


def ran(case: Case, lengths: dict[int, int], twist: Twist, loads: int, rooms: Sequence[Room],
        router: str) -> World:
    """One replica for each room, step by step; loads of adapters take ``loads`` times as long."""
    world, replicas, streams = World(), [], [BytesIO() for _ in rooms]
    for number, (room, stream) in enumerate(zip(rooms, streams, strict=True)):
        store = store_of(room, loads)
        scheduler = build_scheduler(case.options, case.step_time, make_kv(case), adapters=store)
        replicas.append(SimReplica(
            number, scheduler, StepClock(case.step_time, twist.factors()), Oracle(lengths),
            ReplicaRecorder(to_ps(1.0)), Journal(stream, header(case)), adapters=store))
    made = make_dispatch((router, {}), ("all", {}), RouterContext(
        [fact(number, SMALL) for number in range(len(rooms))], Random(0).randrange), 0.0)
    dispatcher = Dispatcher(SeenRouter(made, world), replicas,
                            [ReplicaSpec("small", adapters=frozenset(NAMES))] * len(rooms),
                            lambda *_: None)
    Cluster(replicas, dispatcher, lambda *_: None).run(InOrder(case.requests))
    for number, stream in enumerate(streams):
        for record in map(orjson.loads, stream.getvalue().splitlines()):
            if record["kind"] == "plan":
                world.decided(record["now_s"], (number, record["plan"]))
            elif record["kind"] == "commit":
                world.took(number, record["now_s"])
                world.ends_s.update(dict.fromkeys(record["finished"], record["now_s"]))
    return world


def other_lengths(data: st.DataObject, case: Case) -> dict[int, int]:
    return {one.request_id: data.draw(st.one_of(st.just(case.output_tokens[one.request_id]),
                                                st.integers(1, one.max_tokens)))
            for one in case.requests}


def differing(case: Case, lengths: dict[int, int]) -> list[int]:
    return [number for number, length in lengths.items() if length != case.output_tokens[number]]


@given(data=st.data(), case=CASES, rooms=st.lists(ROOMS, min_size=1, max_size=3),
       router=st.sampled_from(ROUTERS.names()), twist=st.one_of(LENGTHS_ONLY, TWISTS),
       loads=st.sampled_from((1, 1, 0, 4)))
def test_plans_and_routes_with_adapters_are_blind(
        data: st.DataObject, case: Case, rooms: list[Room], router: str, twist: Twist,
        loads: int) -> None:
    lengths = other_lengths(data, case)
    assert_blind(ran(case, case.output_tokens, AS_BELIEVED, 1, rooms, router),
                 ran(case, lengths, twist, loads, rooms, router), differing(case, lengths))


def test_places_that_follow_from_true_lengths_are_caught() -> None:
    @given(st.data(), CASES)
    def law(data: st.DataObject, case: Case) -> None:
        lengths = other_lengths(data, case)
        one, other = (ran(case, each, AS_BELIEVED, 1, [(1 + sum(each.values()) % 2, 4)],
                          "round_robin") for each in (case.output_tokens, lengths))
        assert_blind(one, other, differing(case, lengths))

    assert fails(law)
