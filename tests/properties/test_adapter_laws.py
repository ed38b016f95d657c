"""Laws of adapters on a replica: few in one batch, every request ends, jumps change no time."""

from dataclasses import replace
from io import BytesIO
from typing import Any, cast

import orjson
from hypothesis import given

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.step import StepPlan
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.journal.replay import replay
from penstock.journal.replay import scheduler_of as replayed
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.policy.schedule.sequence import Sequence
from penstock.sim.replica import SimReplica
from support.adapter_cases import ROOMS, adapted, store_of
from support.reference_driver import Trace, assert_same_tokens, run_reference
from support.scaled_examples import examples
from support.scheduler_runs import driven, header, make_scheduler
from support.strategies import EVIDENCE, POLICIES, Case, cases, linear_step_times

CASES = adapted(cases(POLICIES, linear_step_times()))


def stepped(case: Case, store: AdapterStore) -> Trace:
    """The trace of the plain driver, which checks the limits after each step."""
    scheduler = make_scheduler(case, store)
    adapter_of = {one.request_id: one.adapter for one in case.requests}

    def check(_: StepPlan) -> None:
        scheduler.check_integrity()
        store.check_integrity()
        started = {adapter_of[one.request_id] for one in scheduler.live()
                   if one.started or one.join_turn >= 0} - {""}
        assert started == store.users.keys()
        assert len(started) <= store.max_loras

    trace = run_reference(scheduler, StepClock(case.step_time), case.requests, case.output_tokens,
                          case.max_in_flight, case.aborts, check, adapters=store)
    assert not scheduler.has_work()
    assert not store.users
    assert not store.requests
    return trace


@examples(200)
@given(CASES, ROOMS)
def test_few_adapters_start_and_every_request_ends(case: Case, room: tuple[int, int]) -> None:
    trace = stepped(case, store_of(room))
    for request in case.requests:
        number = request.request_id
        if number not in trace.refused and number not in trace.shed and \
                number not in trace.aborted:
            assert len(trace.token_ps[number]) == case.output_tokens[number]


class Watched:
    """A scheduler that checks, plan by plan, that no younger prompt keeps a late one waiting."""

    def __init__(self, scheduler: ReplicaScheduler, store: AdapterStore, wait_s: float) -> None:
        self._scheduler = scheduler
        self._store = store
        self._wait_s = wait_s
        self.num_late = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def plan(self, now_s: float) -> StepPlan | None:
        in_use = set(self._store.users)
        waiting = [one for one in self._scheduler.live() if not begun(one)]
        plan = self._scheduler.plan(now_s)
        late = [one for one in waiting if one.request.adapter and not one.ended
                and one.request.adapter not in in_use and not one.relegated
                and one.request.arrival_s + self._wait_s <= now_s]
        # A plan that changes ranks, or takes places away, decides by what it has changed.
        if plan and late and not (plan.relegated or plan.restored or plan.shed or plan.preempted):
            self.num_late += 1
            oldest = min(late, key=age)
            self._check(oldest, in_use, [one for one in waiting if begun(one)
                                         and age(one) > age(oldest) and one.request.adapter])
        return plan

    def _check(self, oldest: Sequence, in_use: set[str], younger: list[Sequence]) -> None:
        if oldest.request.adapter in self._store.users:
            return  # it got its place, and another one may be the oldest
        begun_for = {one.request.adapter for one in younger}
        assert begun_for <= in_use, "the next free place is for the oldest"
        if len(in_use) == self._store.max_loras:
            assert in_use - begun_for, "one adapter is drained"


def begun(sequence: Sequence) -> bool:
    return sequence.started or sequence.join_turn >= 0


def age(sequence: Sequence) -> tuple[float, int]:
    return sequence.request.arrival_s, sequence.serial


@examples(250)
@given(CASES, ROOMS)
def test_no_younger_request_keeps_a_late_one_waiting_for_a_place(case: Case, room: tuple[int, int]
                                                                 ) -> None:
    store = store_of(room)
    wait_s = case.options.adapter_wait_s
    watched = Watched(make_scheduler(case, store), store, 1e9 if wait_s is None else wait_s)
    run_reference(cast("ReplicaScheduler", watched), StepClock(case.step_time), case.requests,
                  case.output_tokens, adapters=store)


def busy_and_rare(wait_s: float | None) -> tuple[Trace, int]:
    """Two busy adapters for two places, with two new requests each every 0.2 s, each for a
    second, and one request of a third adapter. Returns the trace and the rare request."""
    step = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)
    busy = [Request(4 * turn + place, 0.2 * turn, 16, 100, ServiceClass("any"), "m", adapter=name)
            for turn in range(150) for place, name in enumerate("aabb")]
    rare = Request(len(busy), 1.0, 16, 10, ServiceClass("any"), "m", adapter="c")
    requests = sorted((*busy, rare), key=lambda one: (one.arrival_s, one.request_id))
    case = Case(scheduler_options("sarathi", kv_watermark=0.0, adapter_wait_s=wait_s), step, 16,
                10_000, False, tuple(requests), {one.request_id: one.max_tokens
                                                 for one in requests})
    store = AdapterStore(2)
    scheduler = make_scheduler(case, store)
    if wait_s is None:
        return run_reference(scheduler, StepClock(step), case.requests, case.output_tokens,
                             adapters=store), rare.request_id
    watched = Watched(scheduler, store, wait_s)
    trace = run_reference(cast("ReplicaScheduler", watched), StepClock(step), case.requests,
                          case.output_tokens, adapters=store)
    assert watched.num_late
    return trace, rare.request_id


def test_busy_adapters_keep_a_rare_one_waiting_no_longer_than_stated() -> None:
    """A place is free once the requests that had started have ended, a second later at most."""
    waits_s = {}
    for wait_s in (None, 0.0, 3.0):
        trace, rare = busy_and_rare(wait_s)
        waits_s[wait_s] = trace.first_scheduled_ps[rare] / to_ps(1.0) - 1.0
    assert waits_s[None] > 25.0, "until the busy ones stop"
    assert 0.5 < waits_s[0.0] <= 1.02
    assert 3.5 < waits_s[3.0] <= 4.02


@examples(60)
@given(CASES, ROOMS)
def test_the_same_calls_give_the_same_plans(case: Case, room: tuple[int, int]) -> None:
    first, second = (stepped(case, store_of(room)) for _ in range(2))
    assert first.plans == second.plans
    assert first.token_ps == second.token_ps


def jumped(case: Case, store: AdapterStore, stream: BytesIO | None = None) -> SimReplica:
    journal = None if stream is None else Journal(stream, {**header(case),
                                                           "max_loras": store.max_loras})
    return driven(case, journal, adapters=store)[0]


@examples(250)
@given(CASES, ROOMS)
def test_jumps_equal_steps(case: Case, room: tuple[int, int]) -> None:
    case = replace(case, aborts=(), max_in_flight=1)
    stores = store_of(room), store_of(room)
    trace = stepped(case, stores[0])
    replica = jumped(case, stores[1])
    ended = replica.recorder.flush()
    assert trace.token_ps.keys() - trace.shed.keys() <= set(ended.request_id.tolist())
    assert {request.request_id: reason for request, reason, _ in replica.shed} == trace.shed
    assert_same_tokens(trace, ended)
    for name in ("loaded_ps", "num_copies", "num_fetches"):
        assert getattr(stores[0], name) == getattr(stores[1], name)
    assert list(stores[0].host) == list(stores[1].host)
    assert list(stores[0].device) == list(stores[1].device)


@examples(60)
@given(CASES, ROOMS)
def test_a_journal_replays(case: Case, room: tuple[int, int]) -> None:
    stream = BytesIO()
    jumped(replace(case, aborts=(), max_in_flight=1), store_of(room), stream)
    found, *records = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    report = replay(records, replayed(found, case.step_time))
    assert report.mismatch is None


def test_jumps_last_while_a_request_waits_for_a_place() -> None:
    """A request that is passed over shortens no jump: only the end of another one does."""
    options = scheduler_options("sarathi", kv_watermark=0.0)
    step = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)
    requests = tuple(Request(number, 0.0, 16, 100, ServiceClass("any"), "m", adapter=name)
                     for number, name in enumerate("ab"))
    case = Case(options, step, 16, 100, False, requests, {0: 90, 1: 90})
    stream = BytesIO()
    recorder = jumped(case, store_of((1, 2)), stream).recorder
    assert recorder.num_steps == 180
    assert stream.getvalue().count(b'"kind":"commit"') < 8


def test_a_jump_ends_before_a_request_is_late() -> None:
    """The prompt without room for its KV cache is then passed over, so that the next one starts."""
    step = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)
    rows = (("a", 16, 90), ("b", 16, 10), ("a", 170, 10), ("", 16, 10))
    requests = tuple(Request(number, 0.0, prompt, output, ServiceClass("any"), "m", adapter=name)
                     for number, (name, prompt, output) in enumerate(rows))
    case = Case(scheduler_options("sarathi", kv_watermark=0.0, adapter_wait_s=0.2), step, 16, 12,
                False, requests, {number: row[2] for number, row in enumerate(rows)})
    trace = stepped(case, AdapterStore(1))
    assert trace.first_scheduled_ps[3] == to_ps(0.2), "when the second request is late"
    recorder = jumped(case, AdapterStore(1)).recorder
    assert_same_tokens(trace, recorder.flush())
