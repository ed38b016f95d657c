"""Between arrivals and replicas: what routers are shown and told, and when."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from penstock.core.decision import ACCEPT, NOWHERE, Reject, Route
from penstock.core.departure import Departure
from penstock.core.money import Price
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.core.units import to_ps
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.counting import CountingKv
from penstock.policy.route.context import RouterContext
from penstock.policy.route.facts import Offer, ReplicaFacts
from penstock.policy.route.protocol import Router
from penstock.policy.route.simple import RoundRobin
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.options import scheduler_options
from penstock.predict.latency import LatencyPrior
from penstock.registry.make import build_scheduler, make_router
from penstock.registry.policies import ROUTERS
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import NO_REPLICA, Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.strategies import EVIDENCE

# Every step takes 10 ms, whatever it computes.
STEP = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)
ANY = ServiceClass("any")
HURRIED = ServiceClass("hurried", Slo(ttft_s=0.2, itl_s=0.05))
OUTPUTS = {number: 1 + (7 * number) % 23 for number in range(200)}


def replica(number: int, blocks: int = 100, policy: str = "sarathi",
            reserve: str = "prompt") -> SimReplica:
    scheduler = build_scheduler(scheduler_options(policy, kv_reserve=reserve), STEP,
                                CountingKv(blocks, 16))
    return SimReplica(number, scheduler, StepClock(STEP), Oracle(OUTPUTS),
                      ReplicaRecorder(to_ps(1.0)))


def request(number: int, arrival_s: float, tokens: int = 20, model: str = "",
            service_class: ServiceClass = ANY) -> Request:
    return Request(number, arrival_s, tokens, 30, service_class, model)


class Spy:
    """A router that notes what it is shown and told, and takes the place that it is given."""

    def __init__(self, inner: Router | None = None, *, looks: bool = False,
                 learns: bool = True) -> None:
        self.looks_into_queues = inner.looks_into_queues if inner else looks
        self.learns = inner.learns if inner else learns
        self.shown: list[tuple[float, list[ReplicaSnapshot]]] = []
        self.told: list[tuple[int, Departure]] = []  # with how many had been routed before
        self._inner = inner

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        self.shown.append((now_s, list(replicas)))
        if self._inner is not None:
            return self._inner.route(request, replicas, now_s)
        return Route(min(replicas, key=lambda r: (r.num_running + r.num_waiting,
                                                  r.replica_id)).replica_id)

    def ended(self, departure: Departure) -> None:
        self.told.append((len(self.shown), departure))
        if self._inner is not None:
            self._inner.ended(departure)


def run(router: Router, requests: Sequence[Request], replicas: list[SimReplica],
        seats: Sequence[ReplicaSpec] | None = None) -> dict[int, str]:
    """What was refused, with reasons."""
    refused: dict[int, str] = {}

    def refuse(one: Request, reason: str) -> None:
        assert one.request_id not in refused
        refused[one.request_id] = reason

    seats = seats or [ReplicaSpec("m")] * len(replicas)
    dispatcher = Dispatcher(router, replicas, seats, refuse)
    Cluster(replicas, dispatcher, refuse).run(InOrder(requests))
    return refused


def test_a_request_ends_when_it_is_told_to_have_ended() -> None:
    spy = Spy()
    run(spy, [request(1, 0.0), request(2, 0.5)], [replica(0)])
    first, second = (departure for _, departure in spy.told)
    assert (first.request_id, first.finished, first.output_tokens) == (1, True, OUTPUTS[1])
    assert (first.ttft_s, first.e2e_s) == (pytest.approx(0.01), pytest.approx(0.01 * OUTPUTS[1]))
    assert second.request_id == 2


def test_expected_lengths_shrink_as_tokens_come() -> None:
    spy = Spy()
    run(spy, [request(3, 0.0), request(22, 0.055, 1), request(23, 0.1, 1)], [replica(0)])
    pending = [seen[0].pending_output_tokens for _, seen in spy.shown]
    # Nothing is known of lengths: 256 tokens, of which the client asks for at most 30. Six steps
    # have begun by 55 ms, eleven by 100 ms, when the second answer is well beyond its first token.
    assert pending[:2] == [0.0, 30.0 - 6]
    assert pending[2] == pytest.approx(60.0 - 11 - 5, abs=1.0)


@pytest.mark.parametrize("reserve", ["prompt", "max_tokens"])
def test_what_is_booked_for_a_prompt_is_not_taken_for_an_answer(reserve: str) -> None:
    spy = Spy()
    run(spy, [request(3, 0.0, 1200), request(6, 0.015, 10)], [replica(0, reserve=reserve)])
    (_, seen) = spy.shown[1]
    assert seen[0].queued_prompt_tokens == 1200 - 2 * 512
    assert seen[0].pending_output_tokens == 30.0


def test_a_router_that_neither_learns_nor_looks_is_told_nothing() -> None:
    spy = Spy(learns=False)
    run(spy, [request(i, 0.001 * i) for i in range(5)], [replica(0), replica(1)])
    assert spy.told == []
    assert all(r.pending_output_tokens == 0.0 and r.queue == () for _, seen in spy.shown
               for r in seen)


def test_queues_are_shown_in_order_of_service() -> None:
    spy = Spy(looks=True)
    arrivals = [request(0, 0.0, 700), request(1, 0.005, 40), request(2, 0.005, 50),
                request(3, 0.0151, 60)]
    run(spy, arrivals, [replica(0)])
    assert spy.shown[0][1][0].queue == ()
    # What a step has taken is no longer to come, from its beginning on.
    assert spy.shown[1][1][0].queue == (QueuedWork(700 - 512, 512, 30.0),)
    assert [work.prompt_tokens_left for work in spy.shown[2][1][0].queue] == [188, 40]
    at = spy.shown[3][1][0]  # the second step has all the other prompts
    assert [work.prompt_tokens_left for work in at.queue] == [0, 0, 0]
    assert [work.context_tokens for work in at.queue] == [700, 40, 50]
    assert sum(work.prompt_tokens_left for work in at.queue) == at.queued_prompt_tokens
    assert (at.num_waiting + at.num_running) == len(at.queue)


def test_a_step_that_ends_with_an_arrival_is_seen_by_it() -> None:
    """At an instant steps are committed before arrivals are routed, whoever looked before."""
    spy, at_s = Spy(), 0.01 * OUTPUTS[3]
    run(spy, [request(3, 0.0), request(6, at_s - 0.004), request(9, at_s)],
        [replica(0), replica(1)])
    (_, before), (now_s, after) = spy.shown[1], spy.shown[2]
    assert before[0].num_running == 1
    assert (after[0].num_running, after[0].pending_output_tokens) == (0, 0.0)
    assert after[0].observed_at == now_s == at_s


def test_those_turned_away_are_told_and_forgotten() -> None:
    spy = Spy()
    refused = run(spy, [request(0, 0.0, 5000), request(1, 0.0, 20), request(2, 0.1, 20)],
                  [replica(0, blocks=4)])
    assert set(refused) == {0}
    assert spy.told[0][1] == Departure(0, 0, False, 0, None, 0.0)
    assert spy.shown[1][1][0].pending_output_tokens == 0.0
    assert [departure.finished for _, departure in spy.told] == [False, True, True]


def test_refusals_of_the_router_have_its_reason() -> None:
    class Refusing(Spy):
        def route(self, request: Request, replicas: Sequence[ReplicaSnapshot],
                  now_s: float) -> Route:
            admit = Reject("too dear") if request.request_id else ACCEPT
            return Route(NOWHERE, admit=admit)

    router = Refusing()
    assert run(router, [request(0, 0.0), request(1, 0.0)], [replica(0)]) == {
        0: "was refused", 1: "too dear"}
    assert router.told == []


def test_where_nobody_serves_nobody_is_asked() -> None:
    spy = Spy()
    assert run(spy, [request(0, 0.0, model="other")], [replica(0)]) == {0: NO_REPLICA}
    assert spy.shown == []


@pytest.mark.parametrize(("model", "name", "serves"), [
    ("", "any", True), ("m", "any", True), ("other", "any", False), ("", "gold", False)])
def test_seats_serve_their_model_and_classes(model: str, name: str, serves: bool) -> None:
    assert ReplicaSpec("m", frozenset({"any"})).serves(model, name) is serves


# -- every router -------------------------------------------------------------------------------

SETTINGS: Mapping[str, Mapping[str, Any]] = {"fixed_mix": {"shares": {"a": 1, "b": 2}}}
SEATS = [ReplicaSpec("a"), ReplicaSpec("a"), ReplicaSpec("b", frozenset({"any"}))]


def facts() -> list[ReplicaFacts]:
    prior = LatencyPrior(STEP, 64)
    small, large = Offer("a", Price(1e-7, 1e-7), 1.0, 0.5), Offer("b", Price(1e-6, 1e-6), 2.0, 0.7)
    return [ReplicaFacts(0, small, "a", prior), ReplicaFacts(1, small, "a", prior),
            ReplicaFacts(2, large, "b", prior)]


def made(name: str) -> Router:
    rng = Random(5)
    return make_router(name, SETTINGS.get(name, {}), RouterContext(facts(), rng.randrange))


def traffic(num: int = 120) -> list[Request]:
    rng, now_s, found = Random(6), 0.0, []
    for number in range(num):
        now_s += rng.choice((0.0, 0.01, 0.02, 0.0137, 0.05))
        found.append(request(number, now_s, rng.choice((5, 60, 600, 3000)),
                             rng.choice(("", "", "a", "b", "c")), rng.choice((ANY, HURRIED))))
    return found


@pytest.mark.parametrize("name", ROUTERS.names())
def test_every_request_has_one_end_under_every_router(name: str) -> None:
    spy, requests = Spy(made(name)), traffic()
    replicas = [replica(i, policy="penstock") for i in range(3)]
    refused = run(spy, requests, replicas, SEATS)
    finished = [one for r in replicas for one, *_ in r.recorder.ended_since(0)]
    shed = {one.request_id for r in replicas for one, _, _ in r.shed}
    ids = [one.request_id for one in finished if one.request_id not in shed]
    assert sorted([*ids, *shed, *refused]) == [one.request_id for one in requests]
    assert {refused[one.request_id] for one in requests if one.model == "c"} == {NO_REPLICA}
    assert all(one.model in ("", SEATS[i].model) for i, r in enumerate(replicas)
               for one, *_ in r.recorder.ended_since(0))
    if spy.learns:  # everyone who was sent somewhere comes back once
        told = [departure.request_id for _, departure in spy.told]
        assert len(told) == len(set(told))
        assert set(told) >= set(ids) | shed
        assert {d.request_id for _, d in spy.told if d.finished} == set(ids)


@pytest.mark.parametrize("name", ROUTERS.names())
def test_a_run_repeats_itself_under_every_router(name: str) -> None:
    ends = []
    for _ in range(2):
        replicas = [replica(i) for i in range(3)]
        refused = run(made(name), traffic(60), replicas, SEATS)
        ends.append(([[(one.request_id, *rest) for one, *rest in r.recorder.ended_since(0)]
                      for r in replicas], refused))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["joint", "routebalance", "predictive", "qlm"])
def test_nobody_is_told_of_what_has_not_happened_yet(name: str) -> None:
    spy, requests = Spy(made(name)), traffic()
    run(spy, requests, [replica(i) for i in range(3)], SEATS)
    arrivals = {one.request_id: one.arrival_s for one in requests}
    finished = [(routed, arrivals[d.request_id] + d.e2e_s) for routed, d in spy.told if d.finished]
    assert len(finished) > 50
    for routed, end_s in finished:
        # Between the last route before the telling and the first after it lies the end.
        if routed < len(spy.shown):
            assert end_s <= spy.shown[routed][0] + 1e-9
        if routed:
            assert end_s >= spy.shown[routed - 1][0] - 1e-9
    assert all(a <= b for (a, _), (b, _) in pairwise(finished))


def adapted(number: int) -> SimReplica:
    """A replica with two places for adapters."""
    store = AdapterStore(2)
    scheduler = build_scheduler(scheduler_options("sarathi"), STEP, CountingKv(100, 16),
                                adapters=store)
    return SimReplica(number, scheduler, StepClock(STEP), Oracle(OUTPUTS),
                      ReplicaRecorder(to_ps(1.0)), adapters=store)


def test_requests_of_an_adapter_go_where_it_is_in_use() -> None:
    replicas = [adapted(number) for number in range(3)]
    takes = [frozenset("ab"), frozenset("ab"), frozenset("b")]
    refused: list[str] = []
    dispatcher = Dispatcher(make_router("round_robin", {}, RouterContext((), lambda n: 0)),
                            replicas, [ReplicaSpec("m", adapters=names) for names in takes],
                            lambda request, reason: refused.append(reason))

    def send(number: int, adapter: str) -> int:
        request = Request(number, 0.0, 10, 60, ANY, "m", adapter=adapter)
        chosen = dispatcher.choose(request, 0)
        if chosen >= 0:
            replicas[chosen].arrive(request, 0)
            replicas[chosen].begin(0)
            dispatcher.changed(chosen)
        return chosen

    assert [send(number, "a") for number in range(4)] == [0, 0, 0, 0]
    assert send(4, "") in (0, 1, 2), "a request for the model itself goes anywhere"
    assert send(5, "c") == -1
    assert refused == [NO_REPLICA]


class CountedLoads(SimReplica):
    """A replica that counts how often its load was asked for."""

    num_asked = 0

    def load(self, now_ps: int) -> tuple[int, int, int, int]:
        self.num_asked += 1
        return super().load(now_ps)


@pytest.mark.parametrize("blind", [True, False])
def test_a_blind_router_asks_for_no_new_snapshots(blind: bool) -> None:
    replicas = []
    for number in range(3):
        made = replica(number)
        replicas.append(CountedLoads(number, made.scheduler, StepClock(STEP), Oracle(OUTPUTS),
                                     made.recorder))
    dispatcher = Dispatcher(RoundRobin(), replicas, [ReplicaSpec("m")] * 3, lambda *_: None,
                            blind=blind)
    chosen = []
    for number in range(12):
        class_of = (ANY, HURRIED)[number % 2]  # classes with the same replicas share the turn
        one = request(number, 0.0, service_class=class_of)
        chosen.append(dispatcher.choose(one, 0))
        replicas[chosen[-1]].arrive(one, 0)
        dispatcher.changed(chosen[-1])
    assert chosen == [0, 1, 2] * 4
    assert sum(one.num_asked for one in replicas) == (3 if blind else 3 + 11)


def test_a_blind_router_does_not_choose_closed_replicas() -> None:
    replicas = [replica(number) for number in range(3)]
    dispatcher = Dispatcher(RoundRobin(), replicas, [ReplicaSpec("m")] * 3, lambda *_: None,
                            blind=True)
    assert dispatcher.choose(request(0, 0.0), 0) == 0
    dispatcher.close(0)
    assert {dispatcher.choose(request(number, 0.0), 0) for number in range(1, 5)} == {1, 2}
    dispatcher.open(0)
    assert {dispatcher.choose(request(number, 0.0), 0) for number in range(5, 8)} == {0, 1, 2}
