"""Fleets whose models take turns on devices, simulated."""

from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.metrics.table import STATUSES
from penstock.sim.simulation import simulate
from support.small_fleet import FLEET

LENGTHS = {"prompt": {"fixed": 40}, "output": {"fixed": 11}}
NAMES = ("llama-3-8b", "llama-2-7b", "mistral-7b")


def fleet(pool: dict[str, Any] | None = None, rate: float = 3.0, **more: Any) -> Fleet:
    """Three models on one device that holds two of them."""
    usual = {"name": "gpu", "memory_gib": 40, "batching": "static", "models": [
        {"model": name, "max_batch": 16, "load_s": 3} for name in NAMES]}
    return parse_fleet(FLEET, overrides={
        "models": [{"name": name} for name in NAMES], "replicas": None,
        "service_classes": [{"name": "chat", "slo": {"e2e_s": 20}}],
        "traffic": [{"model": name, "lengths": LENGTHS, "rate_per_s": rate, "num_requests": 200}
                    for name in NAMES],
        "multiplexing": [{**usual, **(pool or {})}], **more})


def test_every_request_has_a_row_and_one_end() -> None:
    file = fleet()
    workload = fleet_workload(file)
    result = simulate(file, workload)
    table = result.table
    assert table.request_id.tolist() == list(range(len(workload)))
    np.testing.assert_array_equal(table.arrival_s, workload.arrival_s)
    np.testing.assert_array_equal(table.model_index, workload.model_index)
    served = table.finished
    assert served.any()
    assert (table.last_token_s[served] > table.first_scheduled_s[served]).all()
    assert (table.replica[served] == 0).all()
    np.testing.assert_array_equal(table.met_slo, served & (table.e2e_s < 20))
    # A static batch answers as a whole.
    np.testing.assert_array_equal(table.first_token_s[served], table.last_token_s[served])
    assert result.end_s >= float(np.nanmax(table.last_token_s))


def test_overload_sheds_with_a_reason() -> None:
    file = fleet(rate=400.0, pool={"memory_gib": 20},
                 service_classes=[{"name": "chat", "slo": {"e2e_s": 8}}])
    result = simulate(file, fleet_workload(file))
    shed = int((result.table.status == STATUSES.index("shed")).sum())
    assert shed == sum(result.reasons.values()) > 0
    assert all("too late" in reason for reason in result.reasons)


def test_answers_of_continuous_devices_begin_before_they_end() -> None:
    file = fleet({"batching": "continuous"})
    run = run_fleet(file, fleet_workload(file), 0)
    table = run.result.table
    served = table.finished
    assert served.any()
    assert (table.first_token_s[served] < table.last_token_s[served]).all()
    assert (table.itl_mean_s[served] > 0).all()
    assert (table.replica[served] == 0).all()
    assert (table.output_tokens[served] == 11).all()
    pool, = run.summary.document()["multiplexing"]
    assert 0 < pool["computing_share"] < 1
    assert pool["computing_share"] * run.summary.document()["end_s"] == pytest.approx(
        sum(run.result.pools[0].computing_s))


def adapted(rank: int = 8, replicas: list[dict[str, Any]] | None = None) -> Fleet:
    """Two models that take turns, one with adapters, of which the first has a ``rank``."""
    return fleet({"batching": "continuous", "max_residents": 1, "models": [
        {"model": NAMES[0], "load_s": 1, "lora": {"max_loras": 2, "max_cpu_loras": 3}},
        {"model": NAMES[1], "load_s": 1}]},
        models=[{"name": NAMES[0], "adapters": [{"name": f"a{place}", "rank": 8 if place else rank}
                                                for place in range(4)]}, {"name": NAMES[1]}],
        traffic=[{"model": NAMES[0], "lengths": LENGTHS, "rate_per_s": 1, "num_requests": 60,
                  "adapters": {"base_share": 0.2}},
                 {"model": NAMES[1], "lengths": LENGTHS, "rate_per_s": 0.2, "num_requests": 10}],
        replicas=replicas)


def test_adapters_come_and_go_with_their_model() -> None:
    file = adapted()
    run = run_fleet(file, fleet_workload(file), 0)
    assert run.result.table.finished.all()
    document = run.summary.document()
    loads, named = document["adapters"]["loads"], document["adapters"]["num_adapters"]
    model, = (one for one in document["multiplexing"][0]["models"] if one["model"] == NAMES[0])
    assert model["loads"] > 1
    assert named == 4
    # Host memory for three of four adapters, and none is left of a model that was evicted.
    assert 4 + model["loads"] - 1 <= loads["from_disk"] <= loads["to_device"]
    assert loads["waited_s"] > 0


def test_an_adapter_of_a_higher_rank_goes_to_the_engine_that_takes_it() -> None:
    file = adapted(64, [{"model": NAMES[0], "lora": {"max_rank": 64}, "count": 1}])
    workload = fleet_workload(file)
    table = simulate(file, workload).table
    assert table.finished.all()
    high = np.array([workload.adapters[place] == "a0" for place in workload.adapter_index])
    assert high.any()
    assert (table.replica[high] == 0).all()


def test_memory_beside_the_weights_is_the_kv_cache() -> None:
    def preempted(size_gib: float) -> int:
        file = fleet({"batching": "continuous", "memory_gib": 70, "models": [
            {"model": NAMES[0], "size_gib": size_gib, "max_batch": 64}, *(
                {"model": name} for name in NAMES[1:])]}, rate=200.0)
        table = simulate(file, fleet_workload(file)).table
        return int(np.nanmax(table.first_token_s[table.model_index == 0]
                             - table.arrival_s[table.model_index == 0]) * 1000)

    # 14.96 GiB of weights; 0.02 GiB hold three requests at a time.
    assert preempted(14.98) > 2 * preempted(20.0)


def test_a_models_own_deadline_is_kept_if_sooner() -> None:
    models = [{"model": name, "max_batch": 16, "load_s": 3} for name in NAMES]
    models[0]["e2e_s"] = 2.0
    file = fleet({"models": models, "policy": "edf"})
    table = simulate(file, fleet_workload(file)).table
    mine = table.model_index == table.models.index(NAMES[0])
    np.testing.assert_array_equal(table.met_slo[mine], table.e2e_s[mine] < 2.0)
    assert 0 < table.met_slo[mine].mean() < 1
    assert table.met_slo[~mine].mean() > table.met_slo[mine].mean()


def test_a_host_that_remembers_makes_loads_shorter() -> None:
    def mean(memory_gib: float) -> float:
        host = {"memory_gib": memory_gib, "disk_gb_per_s": 5, "copy_gb_per_s": 10, "fixed_s": 1}
        file = fleet({"memory_gib": 20, "host": host, "policy": "round-robin"})
        run = run_fleet(file, fleet_workload(file), 0)
        return float(run.summary.document()["multiplexing"][0]["load_mean_s"])

    # 13.5 to 16 GB over the bus in 1.3 to 1.6 s, and from disk in twice that.
    assert 5.0 < mean(1) < 5.8
    assert 2.3 < mean(200) < 3.0  # three of its few loads find nothing in memory


def test_confidential_mode_makes_loads_and_batches_longer() -> None:
    def run(confidential: bool) -> tuple[float, float]:
        host = {"memory_gib": 1, "disk_gb_per_s": 5, "copy_gb_per_s": 10}
        file = fleet({"memory_gib": 20, "host": host, "policy": "round-robin"},
                     accelerators=[{"name": "h100-80gb", "confidential": confidential}])
        pool = run_fleet(file, fleet_workload(file), 0)
        batches = [one.seconds for one in pool.result.pools[0].run.batches]
        return pool.summary.document()["multiplexing"][0]["load_mean_s"], min(batches)

    plain, confidential = run(False), run(True)
    # 13.5 to 16 GB: 0.18 s more per GB copied and 0.14 s more per GB read; 0.16 s per batch.
    assert 13.5 * 0.32 < confidential[0] - plain[0] < 16.1 * 0.33
    assert confidential[1] - plain[1] == pytest.approx(0.1639, abs=0.02)


def test_the_seed_draws_the_noise() -> None:
    file = fleet(run={"step_time_noise": 0.2})
    workload = fleet_workload(file)
    first, again, other = (simulate(file, workload, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.table.last_token_s, again.table.last_token_s)
    assert not np.array_equal(first.table.last_token_s, other.table.last_token_s)


def test_each_pool_serves_its_own_models() -> None:
    models = [{"model": name, "max_batch": 16, "load_s": 3} for name in NAMES]
    file = fleet(multiplexing=[{"name": "a", "models": models[:1]},
                            {"name": "b", "count": 2, "models": models[1:]}])
    result = simulate(file, fleet_workload(file))
    assert [one.pool.name for one in result.pools] == ["a", "b"]
    assert [len(one.run.arrival_s) for one in result.pools] == [200, 400]
    assert result.table.finished.all()


def test_requests_of_a_model_that_no_pool_has_are_refused() -> None:
    file = fleet(multiplexing=[{"models": [{"model": NAMES[0]}]}])
    with pytest.raises(InputError, match="traffic: llama-2-7b is on no device of multiplexing"):
        simulate(file, fleet_workload(file))


def test_requests_that_leave_the_model_open_go_where_few_wait() -> None:
    file = fleet(traffic=[{"model": "auto", "lengths": LENGTHS, "rate_per_s": 60.0,
                           "num_requests": 300}], pool={"memory_gib": 60})
    run = run_fleet(file, fleet_workload(file), 0)
    pool, = run.summary.document()["multiplexing"]
    assert sum(model["received"] for model in pool["models"]) == 300
    assert all(model["received"] > 0 for model in pool["models"])
    # The first is loaded first, and goes before those that are not resident.
    assert max(pool["models"], key=lambda model: model["received"])["model"] == NAMES[0]


def test_the_summary_counts_what_the_table_has() -> None:
    file = fleet(rate=400.0, service_classes=[{"name": "chat", "slo": {"e2e_s": 8}}])
    run = run_fleet(file, fleet_workload(file), 0)
    summary = run.summary.document()
    pool, = summary["multiplexing"]
    assert summary["overall"]["received"] == 600
    assert sum(model["received"] for model in pool["models"]) == 600
    assert sum(model["met"] for model in pool["models"]) == summary["overall"]["met"]
    assert sum(model["shed"] for model in pool["models"]) == summary["overall"]["shed"] == sum(
        one["num_requests"] for one in summary["refusals"])
    assert pool["loads"] == sum(model["loads"] for model in pool["models"])
    assert summary["overall"]["utilisation"] == pytest.approx(
        pool["computing_share"] * summary["end_s"] / summary["window_s"])
    assert summary["overall"]["cost"]["per_hour"] == file.accelerators[0].price_per_hour


def test_devices_are_numbered_through_all_pools() -> None:
    models = [{"model": name, "max_batch": 16, "load_s": 3} for name in NAMES]
    file = fleet(rate=40.0, multiplexing=[{"name": "a", "count": 2, "models": models[:1]},
                                       {"name": "b", "models": models[1:]}])
    run = run_fleet(file, fleet_workload(file), 0)
    table = run.table
    mine = table.model_index == table.models.index(NAMES[0])
    assert set(table.replica[mine & table.finished].tolist()) == {0, 1}
    assert set(table.replica[~mine & table.finished].tolist()) == {2}
    requests = [one["requests"] for one in run.summary.document()["replicas"]]
    assert sum(requests) == len(table)
    assert requests[2] == int((~mine).sum())


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_confidential_requests_run_while_devices_are_attested(batching: str) -> None:
    attested = {"simulated": [{"until_s": 20}, {"from_s": 30}]}
    classes = [{"name": "chat", "slo": {"e2e_s": 20}},
               {"name": "secret", "slo": {"e2e_s": 20}, "confidential": True}]
    file = fleet({"batching": batching}, service_classes=classes, traffic=[
        {"model": name, "lengths": LENGTHS, "rate_per_s": 3, "num_requests": 200,
         "mix": {"chat": 0.5, "secret": 0.5}} for name in NAMES], accelerators=[
        {"name": "h100-80gb", "confidential": True, "attestation": attested}])
    run = run_fleet(file, fleet_workload(file), 0)
    table = run.result.table
    secret = table.class_index == table.service_classes.index("secret")
    between = (table.arrival_s >= 20) & (table.arrival_s < 30)
    rejected = table.status == STATUSES.index("rejected")
    assert between.any()
    assert rejected[secret & between].all()
    assert not rejected[~secret].any()
    begun = table.first_scheduled_s[secret & table.finished]
    assert ((begun < 20) | (begun >= 30)).all()
    assert table.finished[secret & (table.arrival_s > 30)].any()
    # Nothing of them but what is padded, and nothing of the devices that they were on.
    assert run.table.service_classes == ("chat",)
    assert len(run.table) == int((~secret).sum())
    pool, = run.summary.document()["multiplexing"]
    assert (pool["loads"], pool["devices"], pool["models"]) == (None, [], [])
    assert pool["num_models"] == 3
    assert run.summary.document()["replicas"] == []
    padded = run.summary.document()["confidential"]["classes"]["secret"]
    assert padded["received_at_most"] == 512 > int(secret.sum()) > 256


def test_what_never_was_attested_serves_no_confidential_request() -> None:
    file = fleet(service_classes=[{"name": "chat", "slo": {"e2e_s": 20}, "confidential": True}],
                 accelerators=[{"name": "h100-80gb", "confidential": True}])
    result = simulate(file, fleet_workload(file))
    assert (result.table.status == STATUSES.index("rejected")).all()
    (reason,) = result.reasons
    assert "has no attestation" in reason
    assert not result.pools[0].run.loads


def test_a_model_in_two_pools_is_counted_where_it_was_served() -> None:
    model = {"model": NAMES[0], "max_batch": 16, "load_s": 3}
    others = [{"model": name, "max_batch": 16, "load_s": 3} for name in NAMES[1:]]
    file = fleet(multiplexing=[{"name": "a", "models": [model]},
                            {"name": "b", "models": [model, *others]}])
    result = simulate(file, fleet_workload(file))
    first, second = run_fleet(file, fleet_workload(file), 0).summary.document()["multiplexing"]
    # The pool where it is resident goes first, and that is where the first request went.
    assert first["models"][0]["received"] > 150
    assert first["models"][0]["received"] + second["models"][0]["received"] == 200
    assert sum(one["received"] for one in second["models"][1:]) == 400
    assert sorted([*result.pools[0].rows, *result.pools[1].rows]) == list(range(600))
