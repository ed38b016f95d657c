"""Laws of adapters on a replica: few in one batch, every request ends, jumps change no time."""

from dataclasses import replace
from io import BytesIO

import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.step import StepPlan
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.journal.replay import replay
from penstock.journal.replay import scheduler_of as replayed
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.route.simple import RoundRobin
from penstock.policy.schedule.adapters import AdapterCost, AdapterStore
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.reference_driver import Trace, assert_same_tokens, run_reference
from support.scaled_examples import examples
from support.scheduler_runs import header, make_kv
from support.strategies import EVIDENCE, POLICIES, Case, cases, linear_step_times

NAMES = ("", "a", "b", "c", "d", "e")
COSTS = {name: AdapterCost(7_000_000_001 * place, 1_300_000_003 * place, 90_000_007 * place)
         for place, name in enumerate(NAMES) if name}


def adapted(case: Case, names: list[str]) -> Case:
    """The same case with adapters, in turn."""
    return replace(case, requests=tuple(one._replace(adapter=names[place % len(names)])
                                        for place, one in enumerate(case.requests)))


CASES = st.builds(adapted, cases(POLICIES, linear_step_times()),
                  st.lists(st.sampled_from(NAMES), min_size=1, max_size=7))
ROOMS = st.tuples(st.integers(1, 3), st.integers(0, 4))


def store_of(room: tuple[int, int]) -> AdapterStore:
    return AdapterStore(*room, 2_000_000_000, COSTS)


def scheduler_of(case: Case, store: AdapterStore) -> ReplicaScheduler:
    return build_scheduler(case.options, case.step_time, make_kv(case), adapters=store,
                           max_in_flight=case.max_in_flight)


def stepped(case: Case, store: AdapterStore) -> Trace:
    """The trace of the plain driver, which checks the limits after each step."""
    scheduler = scheduler_of(case, store)
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


@examples(60)
@given(CASES, ROOMS)
def test_the_same_calls_give_the_same_plans(case: Case, room: tuple[int, int]) -> None:
    first, second = (stepped(case, store_of(room)) for _ in range(2))
    assert first.plans == second.plans
    assert first.token_ps == second.token_ps


def jumped(case: Case, store: AdapterStore, stream: BytesIO | None = None
           ) -> tuple[ReplicaRecorder, SimReplica]:
    recorder = ReplicaRecorder(to_ps(1.0))
    journal = None if stream is None else Journal(stream, {**header(case),
                                                           "max_loras": store.max_loras})
    replica = SimReplica(0, scheduler_of(case, store), StepClock(case.step_time),
                         Oracle(case.output_tokens), recorder, journal, adapters=store)

    def refuse(request: Request, reason: str) -> None:
        """Do nothing."""

    spec = ReplicaSpec("m", adapters=frozenset(NAMES))
    Cluster([replica], Dispatcher(RoundRobin(), [replica], [spec], refuse),
            refuse).run(InOrder(case.requests))
    return recorder, replica


@examples(250)
@given(CASES, ROOMS)
def test_jumps_equal_steps(case: Case, room: tuple[int, int]) -> None:
    case = replace(case, aborts=(), max_in_flight=1)
    stores = store_of(room), store_of(room)
    trace = stepped(case, stores[0])
    recorder, replica = jumped(case, stores[1])
    ended = recorder.flush()
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
    recorder, _ = jumped(case, store_of((1, 2)), stream)
    assert recorder.num_steps == 180
    assert stream.getvalue().count(b'"kind":"commit"') < 8
