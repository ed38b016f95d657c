"""Laws of fleets with replicas and pools, which one kernel simulates in one order of time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.fleet.values import Fleet
from penstock.metrics.table import FINISHED, NO_REPLICA, REJECTED, STATUSES, RequestTable
from penstock.sim.simulation import SimulationResult, simulate
from penstock.workload.select import select
from penstock.workload.workload import Workload
from support.small_fleet import FLEET

OWN, SHARED = "llama-3-8b", ("llama-2-7b", "mistral-7b", "qwen2.5-7b")
MODELS = (OWN, *SHARED, "auto")
MOMENTS = ("first_scheduled_s", "first_token_s", "last_token_s")


UNFINISHED = STATUSES.index("unfinished")
SHED = STATUSES.index("shed")


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet and the requests that come to it."""

    fleet: Fleet
    workload: Workload

    def run(self, workload: Workload | None = None) -> SimulationResult:
        """One simulation, of other requests where they are given."""
        return simulate(self.fleet, self.workload if workload is None else workload, seed=1)


def fleet_of(pools: list[dict[str, Any]], num_replicas: int, schedule: str,
             drain_s: float | None) -> Fleet:
    attested = {"simulated": [{"until_s": 3}, {"from_s": 6}]}
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "h100-80gb", "confidential": True, "attestation": attested}],
        "models": [{"name": name} for name in MODELS[:-1]],
        "service_classes": [{"name": "chat", "slo": {"e2e_s": 9}},
                            {"name": "secret", "slo": {"ttft_s": 4}, "confidential": True}],
        "traffic": [{"model": "auto", "mix": {"chat": 0.5, "secret": 0.5}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": [{"model": OWN, "count": num_replicas, "attestation": attested}]
        if num_replicas else None,
        "multiplexing": pools or None, "policies": {"schedule": schedule, "route": "least_loaded"},
        "run": {"drain_s": drain_s}})


def workload_of(rows: list[tuple[float, int, int, int, int]]) -> Workload:
    """Rows of (gap, model, class, prompt tokens, output tokens)."""
    gaps, models, classes, prompts, outputs = zip(*rows, strict=True)
    zeros, none = np.zeros(len(rows), np.int64), np.zeros(0, np.int64)
    return Workload(
        np.cumsum(gaps), np.array(prompts), np.array(outputs), np.full(len(rows), 80), MODELS,
        np.array(models), ("chat", "secret"), np.array(classes), ("default",), zeros, none, none)


@st.composite
def pools(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(1, 2))):
        names = draw(st.lists(st.sampled_from(SHARED), min_size=1, max_size=3, unique=True))
        found.append({
            "name": f"pool-{number}", "count": draw(st.integers(1, 2)),
            "memory_gib": draw(st.sampled_from((22, 45))),
            "batching": draw(st.sampled_from(("static", "continuous"))),
            "policy": draw(st.sampled_from(("penstock", "edf", "longest-queue"))),
            "models": [{"model": name, "size_gib": 20, "max_batch": 4,
                        "load_s": draw(st.sampled_from((0.5, 2.0)))} for name in names]})
    return found


@st.composite
def cases(draw: st.DrawFn, least_replicas: int = 0) -> Case:
    own = draw(pools())
    num_replicas = draw(st.integers(least_replicas, 2))
    hosted = {model["model"] for pool in own for model in pool["models"]}
    asked = [index for index, name in enumerate(MODELS)
             if name in hosted or name == "auto" or (name == OWN and num_replicas)]
    rows = draw(st.lists(st.tuples(
        st.sampled_from((0.0, 0.0, 0.05, 0.4, 2.0)), st.sampled_from(asked), st.integers(0, 1),
        st.integers(1, 900), st.integers(1, 60)), min_size=1, max_size=25))
    fleet = fleet_of(own, num_replicas, draw(st.sampled_from(("penstock", "sarathi"))),
                     draw(st.sampled_from((None, None, 0.0, 3.0))))
    return Case(fleet, workload_of(rows))


def same(first: RequestTable, second: RequestTable) -> None:
    for name in (*MOMENTS, "replica", "status", "output_tokens", "met_slo"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@settings(max_examples=60)
@given(cases())
def test_every_request_is_in_one_place_and_ends_once(case: Case) -> None:
    result, workload = case.run(), case.workload
    table = result.table
    num_replicas = sum(group.count for group in case.fleet.replicas)
    np.testing.assert_array_equal(table.request_id, np.arange(len(workload)))
    place = np.full(len(workload), -1)
    first = num_replicas
    for number, one in enumerate(result.pools):
        assert (place[one.rows] == -1).all(), "in two pools"
        place[one.rows] = number
        devices = table.replica[one.rows]
        known = devices != NO_REPLICA
        assert ((first <= devices[known]) & (devices[known] < first + one.pool.count)).all()
        names = np.array([model.spec.name for model in one.pool.models])[one.run.model]
        asked = np.array(workload.models)[workload.model_index[one.rows]]
        assert ((asked == "auto") | (asked == names)).all(), "served by another model"
        first += one.pool.count
    elsewhere = place == -1
    assert (table.replica[elsewhere] < num_replicas).all()
    assert set(table.status[elsewhere & (table.replica == NO_REPLICA)]) <= {REJECTED, UNFINISHED}
    finished = table.status == FINISHED
    np.testing.assert_array_equal(table.output_tokens[finished], workload.output_tokens[finished])
    for before, after in zip(("arrival_s", *MOMENTS), MOMENTS, strict=False):
        gap_s = getattr(table, after)[finished] - getattr(table, before)[finished]
        assert (gap_s >= -1e-12).all(), f"{after} before {before}"
    refused = int(np.isin(table.status, (REJECTED, SHED)).sum())
    assert sum(result.reasons.values()) == refused
    if case.fleet.run.drain_s is None:
        assert refused + int(finished.sum()) == len(workload)


@settings(max_examples=40)
@given(cases())
def test_no_confidential_request_runs_where_nothing_is_attested(case: Case) -> None:
    table = case.run().table
    secret = table.class_index == 1
    at_s = np.where(table.replica >= sum(group.count for group in case.fleet.replicas),
                    table.first_scheduled_s, table.arrival_s)[secret & table.finished]
    assert ((at_s < 3) | (at_s >= 6)).all()


@settings(max_examples=30)
@given(cases())
def test_the_same_case_runs_the_same_again(case: Case) -> None:
    first, second = case.run(), case.run()
    same(first.table, second.table)
    assert first.reasons == second.reasons
    assert first.end_s == second.end_s
    for one, other in zip(first.pools, second.pools, strict=True):
        assert (one.run.loads, one.run.batches) == (other.run.loads, other.run.batches)


@settings(max_examples=40)
@given(cases(), st.data())
def test_what_comes_later_changes_nothing_before(case: Case, data: st.DataObject) -> None:
    case = Case(replace(case.fleet, run=replace(case.fleet.run, drain_s=None)), case.workload)
    until = data.draw(st.integers(0, len(case.workload) - 1))
    cut_s = float(case.workload.arrival_s[until])
    few = select(case.workload, case.workload.arrival_s < cut_s)
    if not len(few):
        return
    whole, part = case.run().table, case.run(few).table
    for name in MOMENTS:
        before, after = getattr(whole, name)[:len(few)], getattr(part, name)
        early = (before < cut_s) | (after < cut_s)
        np.testing.assert_array_equal(before[early], after[early])


@settings(max_examples=40)
@given(cases(), st.data())
def test_decisions_know_nothing_of_lengths_before_an_answer_ends(case: Case,
                                                                 data: st.DataObject) -> None:
    outputs = data.draw(st.lists(st.integers(1, 60), min_size=len(case.workload),
                                 max_size=len(case.workload)))
    first = case.run()
    second = case.run(replace(case.workload, output_tokens=np.array(outputs)))
    told_s = np.inf  # when the first answer of either run ends, which tells how long it was
    for result in (first, second):
        ends = result.table.last_token_s[result.table.status == FINISHED]
        told_s = min(told_s, float(ends.min(initial=np.inf)))
    for one, other in zip(first.pools, second.pools, strict=True):
        assert [(load.device, load.model, load.begin_s) for load in one.run.loads
                if load.begin_s < told_s] == [
            (load.device, load.model, load.begin_s) for load in other.run.loads
            if load.begin_s < told_s]
    before, after = first.table, second.table
    early = (before.first_scheduled_s < told_s) | (after.first_scheduled_s < told_s)
    np.testing.assert_array_equal(before.first_scheduled_s[early], after.first_scheduled_s[early])
    np.testing.assert_array_equal(before.replica[early], after.replica[early])


@settings(max_examples=40)
@given(cases(least_replicas=1))
def test_parts_that_share_no_requests_do_not_touch_each_other(case: Case) -> None:
    """Each part alone does to its own requests what it does beside the other."""
    names = np.array(case.workload.models)[case.workload.model_index]
    fleet = replace(case.fleet, run=replace(case.fleet.run, drain_s=None))
    named = select(case.workload, names != "auto")
    if not len(named):
        return
    table = simulate(fleet, named, seed=1).table
    own = np.array(named.models)[named.model_index] == OWN
    num_replicas = sum(group.count for group in fleet.replicas)
    for mine, part, shift in ((own, replace(fleet, multiplexing=()), 0),
                              (~own, replace(fleet, replicas=()), num_replicas)):
        if mine.any():
            alone = simulate(part, select(named, mine), seed=1).table
            for name in (*MOMENTS, "status", "output_tokens", "met_slo"):
                np.testing.assert_array_equal(getattr(table.take(mine), name), getattr(alone, name))
            placed = alone.replica != NO_REPLICA
            np.testing.assert_array_equal(table.replica[mine][placed] - shift,
                                          alone.replica[placed])
