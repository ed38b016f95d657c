"""``run.beliefs``: what policies know of how long simulated devices really take."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.journal.journal import read_journal
from penstock.journal.replay import replay, scheduler_of
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.deviation import USUAL_STEP
from penstock.registry.policies import ROUTERS
from penstock.sim.simulation import SimulationResult, simulate
from support.small_fleet import FLEET

LENGTHS = {"prompt": {"fixed": 400}, "output": {"fixed": 40}}
MIX = {"chat": 0.5, "batch": 0.5}
NAMES = ("llama-3-8b", "llama-2-7b", "mistral-7b")


def fleet(beliefs: str | None, **more: Any) -> Fleet:
    """Three replicas of one kind."""
    run = {} if beliefs is None else {"run": {"beliefs": beliefs}}
    return parse_fleet(FLEET, overrides={"replicas": [{"count": 3}], **run, **more})


def table_of(file: Fleet, seed: int = 0, journals: Path | None = None) -> RequestTable:
    return simulate(file, fleet_workload(file), seed=seed, journal_dir=journals).table


def test_policies_are_uncertain_without_a_word() -> None:
    traffic = [{"mix": MIX, "lengths": LENGTHS, "rate_per_s": 1000, "num_requests": 300}]
    exact, said, unsaid = (table_of(fleet(name, traffic=traffic))
                           for name in ("exact", "uncertain", None))
    np.testing.assert_array_equal(said.last_token_s, unsaid.last_token_s)
    assert not np.array_equal(said.last_token_s, exact.last_token_s)


def test_uncertain_policies_leave_the_devices_as_they_are() -> None:
    """A scheduler that reads no step times is the same in both worlds, whatever the seed."""
    plain = {"schedule": "sarathi", "route": "least_loaded"}
    exact = table_of(fleet("exact", policies=plain))
    for seed in (0, 1):
        off = table_of(fleet("uncertain", policies=plain), seed)
        np.testing.assert_array_equal(off.last_token_s, exact.last_token_s)


def test_the_seed_draws_what_uncertain_policies_believe(tmp_path: Path) -> None:
    """Replicas of one kind believe the same. Each is within the model's interval, and off it."""
    factors = []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        table_of(fleet("uncertain"), seed, tmp_path / str(seed))
        own = {next(iter(read_journal(tmp_path / str(seed) / f"journal-{number}.jsonl")))
               ["step_time_factor"] for number in range(3)}
        assert len(own) == 1
        factors.append(own.pop())
    model = step_time(fleet("uncertain").replicas[0])
    usual = model.predict(USUAL_STEP)
    assert len(set(factors)) == 4
    assert all(usual.low_s <= factor * usual.total_s <= usual.high_s for factor in factors)


@pytest.mark.parametrize("route", ["predictive", "joint"])
def test_uncertain_routers_may_choose_otherwise(route: str) -> None:
    """Two kinds of replicas: the router believes one of them to be faster than the other is."""
    traffic = [{"mix": MIX, "lengths": LENGTHS, "rate_per_s": 1e3, "num_requests": 60}]
    kinds = {"accelerators": [{"name": "a100-80gb", "count": 4}, {"name": "l40s", "count": 4}],
             "replicas": [{"accelerator": "a100-80gb", "count": 2},
                          {"accelerator": "l40s", "count": 2}]}
    policies = {"route": route, "schedule": "sarathi"}
    exact, *off = (table_of(fleet(name, traffic=traffic, policies=policies, **kinds), seed)
                   for name, seed in (("exact", 0), *(("uncertain", s) for s in range(4))))
    assert any(not np.array_equal(exact.replica, one.replica) for one in off)


def test_the_seed_draws_how_far_replicas_are_from_the_model() -> None:
    file = fleet("model")
    first, again, other = (table_of(file, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.last_token_s, again.last_token_s)
    assert not np.array_equal(first.last_token_s, other.last_token_s)
    assert not np.array_equal(first.last_token_s, table_of(fleet("exact")).last_token_s)


def first_steps(folder: Path, number: int) -> list[float]:
    """Durations of a replica's steps that were committed one by one."""
    return [record["duration_s"] for record in read_journal(folder / f"journal-{number}.jsonl")
            if record["kind"] == "commit" and record["duration_s"]]


def test_each_replica_is_off_by_a_factor_of_its_own_within_the_stated_interval(
        tmp_path: Path) -> None:
    """Each gets one request of the same length, so that their first steps have the same work."""
    traffic = [{"mix": {"chat": 1}, "lengths": LENGTHS, "rate_per_s": 1000, "num_requests": 3}]
    for name in ("exact", "model"):
        (tmp_path / name).mkdir()
        table_of(fleet(name, traffic=traffic, policies={"route": "round_robin"}),
                 journals=tmp_path / name)
    factors = [first_steps(tmp_path / "model", number)[0]
               / first_steps(tmp_path / "exact", number)[0] for number in range(3)]
    assert len({round(factor, 6) for factor in factors}) == 3
    assert all(0.6 < factor < 1.5 and factor != 1.0 for factor in factors)


@pytest.mark.parametrize("beliefs", ["exact", "uncertain", "model"])
def test_schedules_follow_from_beliefs_and_from_what_steps_took_alone(
        tmp_path: Path, beliefs: str) -> None:
    """A journal has no truth in it but the ends of steps, and brings the same plans."""
    file = fleet(beliefs)
    table_of(file, journals=tmp_path)
    for number in range(3):
        header, *records = read_journal(tmp_path / f"journal-{number}.jsonl")
        report = replay(records, scheduler_of(header, step_time(file.replicas[0])))
        assert report.mismatch is None
        assert report.num_plans > 20


@pytest.mark.parametrize("route", ROUTERS.names())
def test_routers_know_only_the_model(route: str) -> None:
    """All requests come before the first step has ended anywhere, so nothing tells the worlds
    apart."""
    traffic = [{"mix": MIX, "lengths": LENGTHS, "rate_per_s": 1e6, "num_requests": 30}]
    policies = {"route": route, "admit": "feasible"}
    exact, model = (table_of(fleet(name, traffic=traffic, policies=policies))
                    for name in ("exact", "model"))
    assert not np.array_equal(exact.last_token_s, model.last_token_s)
    np.testing.assert_array_equal(exact.replica, model.replica)


# -- pools -----------------------------------------------------------------------------------------


def pools(beliefs: str, batching: str, seed: int = 0) -> SimulationResult:
    """Three models on two devices of two residents each, all requests at the start."""
    file = parse_fleet(FLEET, overrides={
        "models": [{"name": name} for name in NAMES], "replicas": None,
        "run": {"beliefs": beliefs},
        "service_classes": [{"name": "chat", "slo": {"e2e_s": 60}}],
        "traffic": [{"model": name, "lengths": LENGTHS, "rate_per_s": 1e5, "num_requests": 60}
                    for name in NAMES],
        "multiplexing": [{"name": "gpu", "count": 2, "memory_gib": 40, "batching": batching,
                       "models": [{"model": name, "max_batch": 16, "load_s": 3}
                                  for name in NAMES]}]})
    return simulate(file, fleet_workload(file), seed=seed)


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_devices_of_pools_are_off_too_and_their_policy_does_not_know(batching: str) -> None:
    first, again, other = (pools("model", batching, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.table.last_token_s, again.table.last_token_s)
    assert not np.array_equal(first.table.last_token_s, other.table.last_token_s)
    exact = pools("exact", batching)
    # Loads take what the file states. The first batches begin when the first loads end.
    for one, that in zip(first.pools, exact.pools, strict=True):
        assert [load for load in one.run.loads if load.begin_s <= 3.0] == [
            load for load in that.run.loads if load.begin_s <= 3.0]
        begun = that.run.begin_s <= 3.001
        assert begun.any()
        np.testing.assert_array_equal(one.run.begin_s[begun], that.run.begin_s[begun])


def test_the_choice_between_replicas_and_pools_knows_only_the_model() -> None:
    """Requests that leave the model open, all of them before anything has ended."""
    def served_by(beliefs: str) -> RequestTable:
        file = parse_fleet(FLEET, overrides={
            "models": [{"name": name} for name in NAMES[:2]], "run": {"beliefs": beliefs},
            "replicas": [{"model": NAMES[0], "count": 2}],
            "traffic": [{"model": "auto", "mix": MIX, "lengths": LENGTHS, "rate_per_s": 1e6,
                         "num_requests": 40}],
            "multiplexing": [{"name": "gpu", "models": [
                {"model": name, "max_batch": 16, "load_s": 3} for name in NAMES[:2]]}]})
        return table_of(file)

    exact, model = served_by("exact"), served_by("model")
    assert not np.array_equal(exact.last_token_s, model.last_token_s)
    np.testing.assert_array_equal(exact.replica, model.replica)


def test_a_stated_batch_takes_what_is_stated() -> None:
    stated = {"fixed_s": 1.0, "per_request_s": 0.5}
    model = {"model": NAMES[0], "max_batch": 1, "load_s": 3, "batch": stated}
    file = parse_fleet(FLEET, overrides={
        "replicas": None, "run": {"beliefs": "model"}, "models": [{"name": NAMES[0]}],
        "traffic": [{"mix": MIX, "lengths": LENGTHS, "rate_per_s": 1, "num_requests": 3}],
        "multiplexing": [{"name": "gpu", "batching": "static", "models": [model]}]})
    run = simulate(file, fleet_workload(file)).pools[0].run
    assert {round(batch.seconds, 9) for batch in run.batches} == {1.5}


def test_other_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"run\.beliefs"):
        fleet("exactly")
