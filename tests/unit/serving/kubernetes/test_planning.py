"""Plans of Fleets: once for each generation, from what runs, with every failure told."""

import asyncio

import pytest
import yaml

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.planned import Plan, text_of
from penstock.serving.kubernetes.planning import UNDER_WAY, Planning, Unplanned
from penstock.serving.planning.operation import Answer, failure
from support import cluster_objects as cluster

SPEC = yaml.safe_load(cluster.PLANNED)
DRAWN = parse_fleet(text_of(SPEC), "chat", to_plan=True)
GROUP = {"model": "llama-3.1-8b", "accelerator": "l40s", "count": 1, "precision": "bf16"}
BEFORE = {"observedGeneration": 1, "groups": [GROUP], "demands": [], "costPerHour": 1.0}
NONE = {"served_in_full": True, "cost_per_hour": 0.0, "replicas": [], "candidates": [],
        "demands": [], "least": None}


def fleet(generation=3, **status):
    document = cluster.fleet_document(SPEC, status=status)
    return objects.fleet({**document, "metadata": {**document["metadata"],
                                                   "generation": generation}})


class Jobs:
    """Gives answers in turn, the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.orders, self.cancelled = [*answers], [], 0

    async def answer(self, order):
        self.orders.append(yaml.safe_load(order.text))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is None:
            try:
                await asyncio.sleep(3600)
            finally:
                self.cancelled += 1
        if isinstance(found, Exception):
            raise found
        return found


async def outcome(jobs, one):
    made = []
    planning = Planning(jobs, made.append)
    assert planning.plan(one, DRAWN) == UNDER_WAY
    while not made:
        await asyncio.sleep(0)
    assert made == [one.ref]
    found = planning.plan(one, DRAWN)
    await planning.close()
    return found


def test_a_plan_in_the_status_is_not_computed_again():
    async def work():
        jobs = Jobs(Answer(NONE))
        plan = Planning(jobs, print).plan(fleet(plan={**BEFORE, "observedGeneration": 3}), DRAWN)
        assert plan == Plan(3, [GROUP], [], 1.0, None)
        assert jobs.orders == []
    asyncio.run(work())


def test_what_runs_is_told_to_the_plan_and_left_out_where_the_file_does_not_allow_it():
    async def work():
        jobs = Jobs(Answer(NONE))
        assert await outcome(jobs, fleet(plan=BEFORE)) == Plan(3, [], [], 0.0, None)
        assert [one["accelerator"] for one in jobs.orders[0]["replicas"]] == ["l40s"]
        jobs = Jobs(failure(400, "body:1: replicas[0] needs more"), Answer(NONE))
        assert isinstance(await outcome(jobs, fleet(plan=BEFORE)), Plan)
        assert "replicas" in jobs.orders[0]
        assert "replicas" not in jobs.orders[1]
        jobs = Jobs(Answer(NONE))
        await outcome(jobs, fleet())
        assert [*jobs.orders[0]] == [*SPEC]
    asyncio.run(work())


@pytest.mark.parametrize(("answer", "problem", "passes"), [
    (failure(400, "body:1: traffic: no request"), "traffic: no request", False),
    (failure(504, "no plan within 600 s"), "no plan within 600 s", True),
    (OSError("no more processes"), "OSError: no more processes", True),
    (Answer({**NONE, "served_in_full": False, "demands": [{"name": "a", "meets": None}]}),
     "no plan keeps the objectives of a; `penstock plan` says more", False)])
def test_what_goes_wrong_is_the_problem_of_its_fleet(answer, problem, passes):
    assert asyncio.run(outcome(Jobs(answer), fleet())) == Unplanned(problem, passes)


async def outcomes(jobs, num):
    """Return the outcomes of a Fleet after each of ``num`` calls, with pauses of no time."""
    found, one = [], fleet()
    planning = Planning(jobs, lambda ref: found.append(planning.plan(one, DRAWN)), [0.0])
    planning.plan(one, DRAWN)
    for _ in range(200):
        await asyncio.sleep(0)
        if len(found) == num:
            break
    orders = len(jobs.orders)
    await planning.close()
    return found, orders


def test_a_plan_that_failed_but_not_by_its_file_is_computed_again():
    found, orders = asyncio.run(outcomes(
        Jobs(failure(504, "late"), OSError("full"), Answer(NONE)), 3))
    assert found == [Unplanned("late", True), Unplanned("OSError: full", True),
                     Plan(3, [], [], 0.0, None)]
    assert orders == 3


def test_a_file_that_cannot_be_planned_is_not_planned_again():
    found, orders = asyncio.run(outcomes(Jobs(failure(400, "body:1: no request")), 2))
    assert (found, orders) == ([Unplanned("no request")], 1)


def test_a_later_generation_and_the_end_stop_a_plan():
    async def work():
        jobs = Jobs(None)
        planning = Planning(jobs, print)
        planning.plan(fleet(), DRAWN)
        await asyncio.sleep(0)
        assert planning.plan(fleet(), DRAWN) == UNDER_WAY
        assert len(jobs.orders) == 1
        planning.plan(fleet(4), DRAWN)
        await asyncio.sleep(0)
        assert (len(jobs.orders), jobs.cancelled) == (2, 1)
        await planning.close()
        assert jobs.cancelled == 2
    asyncio.run(work())
