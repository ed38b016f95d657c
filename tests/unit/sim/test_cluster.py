"""The event kernel: one order of time, and who serves what."""

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import permutations

import orjson
import pytest

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import ReplicaSnapshot
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.counting import CountingKv
from penstock.policy.route.protocol import PlainRouter, Router
from penstock.policy.route.simple import LeastLoaded, RoundRobin
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.strategies import EVIDENCE

# Every step takes 10 ms, whatever it computes.
STEP_TIME = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)


def replica(number: int, outputs: dict[int, int], stream: BytesIO | None = None,
            blocks: int = 100) -> SimReplica:
    scheduler = build_scheduler(scheduler_options("sarathi"), STEP_TIME, CountingKv(blocks, 16))
    journal = Journal(stream, {"replica": number}) if stream is not None else None
    return SimReplica(number, scheduler, StepClock(STEP_TIME), Oracle(outputs),
                      ReplicaRecorder(to_ps(1.0)), journal)


def request(number: int, arrival_s: float, tokens: int = 20, model: str = "m") -> Request:
    return Request(number, arrival_s, tokens, 20, ServiceClass("any"), model)


def cluster_of(replicas: list[SimReplica], router: Router, seats: list[ReplicaSpec],
               on_refused: Callable[[Request, str], None] = lambda request, reason: None
               ) -> Cluster:
    return Cluster(replicas, Dispatcher(router, replicas, seats, on_refused), on_refused)


class Watching(PlainRouter):
    """A router that notes the snapshots it was shown."""

    def __init__(self, inner: Router) -> None:
        self._inner = inner
        self.seen: list[tuple[int, ...]] = []

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        self.seen.append(tuple(r.num_waiting + r.num_running for r in replicas))
        return self._inner.route(request, replicas, now_s)


def run(requests: list[Request], num_replicas: int, outputs: dict[int, int],
        router: Router, until_ps: int = 1 << 62) -> tuple[Cluster, list[SimReplica], bytes]:
    stream = BytesIO()
    replicas = [replica(i, outputs, stream) for i in range(num_replicas)]
    cluster = cluster_of(replicas, router, [ReplicaSpec("m")] * num_replicas)
    cluster.run(InOrder(requests), None, until_ps)
    return cluster, replicas, stream.getvalue()


def test_arrivals_of_an_instant_come_before_its_plans() -> None:
    outputs = dict.fromkeys(range(4), 3)
    _, _, journal = run([request(i, 1.0) for i in range(4)], 2, outputs, RoundRobin())
    records = [orjson.loads(line) for line in journal.splitlines()]
    kinds = [record["kind"] for record in records if record["kind"] != "header"]
    assert kinds[:6] == ["add"] * 4 + ["plan"] * 2
    plans = [record["plan"]["chunks"] for record in records if record["kind"] == "plan"]
    # Both of a replica's arrivals are in its first plan, and replicas plan in order of number.
    assert [[chunk[0] for chunk in chunks] for chunks in plans[:2]] == [[0, 2], [1, 3]]


def test_commits_of_an_instant_come_before_its_arrivals() -> None:
    router = Watching(LeastLoaded())
    # One-token answers end at 0.01 s, exactly when the next request arrives.
    run([request(0, 0.0), request(1, 0.01)], 2, {0: 1, 1: 1}, router)
    assert router.seen == [(0, 0), (0, 0)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_equal_ends_are_committed_whatever_the_order_of_start(order: tuple[int, ...]) -> None:
    outputs = {0: 6, 1: 5, 2: 4, 3: 1}
    requests = [request(number, 0.01 * place) for place, number in enumerate(order)]
    router = Watching(RoundRobin())
    cluster, replicas, _ = run([*requests, request(3, 5.0)], 3, outputs, router)
    assert router.seen[-1] == (0, 0, 0)
    assert sum(r.recorder.num_steps for r in replicas) == sum(outputs.values())
    assert cluster.now_ps == to_ps(5.01)


def test_an_arrival_cuts_a_jump_at_the_next_step_boundary() -> None:
    outputs = {0: 20, 1: 1}
    _, (only,), _ = run([request(0, 0.0), request(1, 0.055)], 1, outputs, RoundRobin())
    ended = only.recorder.flush()
    assert ended.request_id.tolist() == [1, 0]
    assert ended.first_scheduled_s.tolist() == [0.06, 0.0]
    assert ended.first_token_s.tolist() == [0.07, 0.01]
    assert ended.last_token_s[1] == 0.2


def test_an_arrival_on_a_boundary_does_not_wait_a_step() -> None:
    outputs = {0: 20, 1: 1}
    _, (only,), _ = run([request(0, 0.0), request(1, 0.05)], 1, outputs, RoundRobin())
    assert only.recorder.flush().first_scheduled_s[0] == 0.05


def test_the_clock_can_be_stopped() -> None:
    outputs = {0: 20, 1: 20}
    cluster, (only,), _ = run([request(0, 0.0), request(1, 9.0)], 1, outputs, RoundRobin(),
                              until_ps=to_ps(9.05))
    assert cluster.now_ps == to_ps(9.05)
    assert only.scheduler.has_work()
    assert only.recorder.unfinished == {1}
    ended = only.recorder.flush()
    assert ended.request_id.tolist() == [0, 1]
    assert ended.output_tokens[0] == 20
    assert 0 < ended.output_tokens[1] < 20, "the tokens given so far are kept"
    assert ended.last_token_s[1] <= 9.05


def test_requests_go_only_where_they_are_served() -> None:
    outputs = dict.fromkeys(range(3), 1)
    refused: list[tuple[int, str]] = []
    replicas = [replica(i, outputs) for i in range(2)]
    cluster = cluster_of(replicas, RoundRobin(), [ReplicaSpec("a"), ReplicaSpec("b")],
                         lambda r, why: refused.append((r.request_id, why)))
    cluster.run(InOrder([request(i, 0.1 * i, model=model) for i, model in enumerate("bac")]))
    assert [r.recorder.flush().request_id.tolist() for r in replicas] == [[1], [0]]
    assert refused == [(2, "no replica serves this model and class")]


def test_what_can_never_fit_is_refused_with_the_limit() -> None:
    refused: list[str] = []
    only = replica(0, {0: 1}, blocks=10)
    cluster = cluster_of([only], RoundRobin(), [ReplicaSpec("m")],
                         lambda r, why: refused.append(why))
    cluster.run(InOrder([request(0, 0.0, tokens=150)]))
    assert refused == ["prompt and max_tokens exceed the KV cache of 160 tokens"]
    assert not only.busy
