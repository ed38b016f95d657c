"""Adapters of a replica: which prompts are passed over, and what makes way."""

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.step import StepResult
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.keep import Demand
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.adapter_prompts import AdapterPrompts
from penstock.policy.schedule.adapters import AdapterCost, AdapterStore
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.sequence import Sequence
from penstock.registry.make import build_scheduler
from support.strategies import EVIDENCE

STEP_TIME = LinearStepTime(0.01, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)
ANY = ServiceClass("any")


class Replica:
    """A scheduler with a store, driven a step at a time."""

    def __init__(self, max_loras: int, most_loaded: int = 0) -> None:
        self.store = AdapterStore(max_loras, most_loaded, 1000, {
            "a": AdapterCost(700, 70, 7), "b": AdapterCost(500, 50, 5)})
        self.scheduler = build_scheduler(scheduler_options("sarathi", kv_watermark=0.0), STEP_TIME,
                                         CountingKv(1000, 16), adapters=self.store)
        self.num = 0

    def add(self, adapter: str) -> int:
        self.scheduler.add(Request(self.num, 0.0, 16, 100, ANY, adapter=adapter), 0.0)
        self.num += 1
        return self.num - 1

    def step(self, *finished: int) -> list[int]:
        """Run a step, with which some requests finish. Returns the prompts that it computed."""
        plan = self.scheduler.plan(0.0)
        assert plan is not None
        self.scheduler.commit(plan, StepResult(finished), 0.0)
        self.scheduler.check_integrity()
        self.store.check_integrity()
        return [chunk.request_id for chunk in plan.chunks]


def test_a_request_without_a_place_is_passed_over() -> None:
    """As in vLLM, later ones of a running adapter, or without one, may start."""
    replica = Replica(1)
    for adapter in ("a", "b", "", "a"):
        replica.add(adapter)
    assert replica.step() == [0, 2, 3]
    assert replica.step() == []
    assert replica.scheduler.num_waiting == 1
    replica.step(0)
    assert replica.step(3) == [], "a place is free only after the step"
    assert replica.step() == [1]


def test_those_passed_over_start_in_their_order() -> None:
    replica = Replica(1)
    first = replica.add("a")
    waiting = [replica.add(name) for name in "bcbc"]
    assert replica.step() == [first]
    replica.step(first)
    assert replica.step() == [waiting[0], waiting[2]]
    replica.step(waiting[0], waiting[2])
    assert replica.step() == [waiting[1], waiting[3]]


def test_a_request_that_leaves_while_it_is_passed_over() -> None:
    replica = Replica(1)
    first, second, third = (replica.add(name) for name in "abb")
    replica.step()
    replica.scheduler.abort(second, 0.0)
    assert replica.store.requests == {"a": 1, "b": 1}
    replica.step(first)
    assert replica.step() == [third]


def test_a_step_waits_for_what_it_loads() -> None:
    replica = Replica(1, 2)
    replica.add("a")
    replica.step()
    assert replica.store.settle() == 770
    assert replica.store.step_ps == 1007
    replica.add("a")
    replica.step(0)
    assert replica.store.settle() == 0
    replica.step(1)
    assert replica.store.step_ps == 0, "no adapter is in use"
    for adapter, load_ps in (("b", 550), ("a", 70), ("b", 50)):
        number = replica.add(adapter)
        replica.step()
        assert replica.store.settle() == load_ps
        replica.step(number)
    assert (replica.store.num_fetches, replica.store.num_copies) == (2, 4)


def test_the_least_recently_used_makes_way() -> None:
    store = AdapterStore(2, 3)
    for adapter in ("a", "b", "a", "c", "d"):
        store.start(adapter)
        store.leave(adapter)
    assert list(store.host) == ["a", "c", "d"]
    assert list(store.device) == ["c", "d"]
    store.start("c")
    store.start("e")
    assert list(store.device) == ["c", "e"], "one in use stays"
    assert "c" in store.host


def test_the_one_that_the_fewest_requests_would_wait_for_leaves_host_memory() -> None:
    costs = dict.fromkeys("abcd", AdapterCost(500, 50, 0)) | {"c": AdapterCost(50_000, 50, 0)}
    store = AdapterStore(1, 3, 0, costs, demand=Demand())
    for moment, adapter in enumerate("aaaacbcbd"):
        store.arrived(adapter, float(moment))
        store.start(adapter)
        store.leave(adapter)
    assert set(store.host) == {"a", "c", "d"}, "b came later than a, but less often"
    store.arrived("b", 9.0)
    store.start("b")
    assert set(store.host) == {"a", "b", "c"}, "d came once"
    fresh = store.emptied()
    assert not fresh.host
    for adapter in ("a", "b", "d", "c"):
        fresh.start(adapter)
        fresh.leave(adapter)
    assert set(fresh.host) == {"a", "b", "c"}, "the next engine knows the demand"


def test_a_fresh_engine_goes_on_counting() -> None:
    store = AdapterStore(1)
    store.start("a")
    fresh = store.emptied()
    assert (fresh.num_copies, fresh.num_fetches, list(fresh.device)) == (1, 1, [])


def test_prompts_that_were_passed_over_wait_once_after_a_rebuild() -> None:
    prompts = AdapterPrompts(lambda one: one.request.arrival_s, AdapterStore(1))
    first, passed = (Sequence(Request(number, 0.0, 16, 100, ANY, adapter=name), number, 0.0, 0)
                     for number, name in enumerate("ab"))
    for one in (first, passed):
        prompts.wait(one)
    first.started = True
    prompts.begin(first)
    for _ in range(3):
        assert prompts.best_waiting() is None
        prompts.rebuild([first, passed])
    prompts.end(first)
    assert prompts.best_waiting() is passed
    passed.started = True
    prompts.begin(passed)
    assert not prompts._waiting, "no entry was left twice"
