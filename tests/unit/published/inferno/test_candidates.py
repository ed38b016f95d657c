import math
from dataclasses import replace

import numpy as np
import pytest

from penstock.published.inferno.candidates import find_candidates, replicas_for, transition_penalty
from penstock.published.inferno.change import scale_load
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.values import Allocation, Load
from support.inferno_bundles import document, rows, server, system


def found(change=lambda made: None, schema="v2"):
    made = document(schema)
    change(made)
    return find_candidates(parse_bundle(made, "body"))


def test_every_profile_of_a_server_is_tried() -> None:
    candidates = found()
    assert set(candidates.by_server["Premium-small"]) == {"A", "2xA", "B"}
    assert set(candidates.by_server["Free-large"]) == {"A", "B"}


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_a_candidate_serves_its_load_within_its_targets(schema) -> None:
    bundle = system(schema)
    candidates = find_candidates(bundle)
    for name, options in candidates.by_server.items():
        load = bundle.servers[name].load
        served = bundle.servers[name]
        targets = bundle.service_classes[served.service_class].targets[served.model]
        for option in options.values():
            assert option.num_replicas == math.ceil(load.arrival_per_min / option.max_per_min)
            assert option.itl_ms <= targets.itl_ms * 1.001
            assert option.ttft_ms <= targets.ttft_ms * 1.001
            assert not option.saturated(load)
            profile = bundle.profiles[served.model, option.accelerator]
            unit = bundle.accelerators[option.accelerator].cost_cents_per_hour
            assert option.cost_cents_per_hour == unit * profile.acc_count * option.num_replicas
            assert option.value == pytest.approx(1.1 * option.cost_cents_per_hour)
            # What fits at 512 tokens, when all are as long as the answer.
            assert option.max_batch == profile.max_batch_size * 512 // load.output_tokens


def test_the_batch_is_the_servers_own_if_it_has_one() -> None:
    candidates = found(lambda made: server(made, "Free-small").update(maxBatchSize=5))
    assert {each.max_batch for each in candidates.by_server["Free-small"].values()} == {5}


def test_a_floor_of_replicas() -> None:
    candidates = found(lambda made: server(made, "Premium-small").update(minNumReplicas=9))
    assert {each.num_replicas for each in candidates.by_server["Premium-small"].values()} == {9}


def test_a_throughput_target_stands_in_for_the_load() -> None:
    def ask(made) -> None:
        rows(made, "serviceClassData")[1]["modelTargets"][0] = {"model": "small", "slo-tps": 5000}
    few, many = found(ask), found(lambda made: (ask(made), server(made, "Free-small")[
        "currentAlloc"]["load"].update(ArrivalRate=7.0)))
    assert few.by_server["Free-small"] == many.by_server["Free-small"]
    option = few.by_server["Free-small"]["A"]
    assert option.num_replicas == math.ceil(5000 / 1024 / (option.max_per_min / 60))


def test_without_load_nothing_is_needed() -> None:
    def rest(made) -> None:
        server(made, "Free-small")["currentAlloc"]["load"]["ArrivalRate"] = 0
    idle = found(rest).by_server["Free-small"]
    assert idle == {"": Allocation()}

    def floor(made) -> None:
        rest(made)
        server(made, "Free-small")["minNumReplicas"] = 2
    option = found(floor).by_server["Free-small"]["B"]
    assert (option.num_replicas, option.cost_cents_per_hour) == (2, 46.0)
    assert option.itl_ms == pytest.approx(17.15 + 0.034)
    assert not option.saturated(Load(0.0, 128, 1024))


def test_a_server_may_keep_its_accelerator() -> None:
    def keep(made) -> None:
        server(made, "Free-small").update(keepAccelerator=True)
        server(made, "Free-small")["currentAlloc"]["accelerator"] = "A"
    assert set(found(keep).by_server["Free-small"]) == {"A"}
    # Nothing is there to keep.
    assert len(found(lambda made: server(made, "Free-small").update(
        keepAccelerator=True)).by_server["Free-small"]) == 3


@pytest.mark.parametrize(("values", "reason"), [
    ({"class": "Premiun"}, "no service class 'Premiun'; did you mean 'Premium'"),
    ({"model": "smal"}, "class 'Free' has no targets for model 'smal'"),
    ({"currentAlloc": {"load": {"arrivalRate": -1}}}, "its load is negative"),
    ({"currentAlloc": {"load": {"avgInTokens": -1}}}, "its load is negative"),
])
def test_broken_references_are_reasons(values, reason) -> None:
    candidates = found(lambda made: server(made, "Free-small").update(values))
    assert reason in candidates.reason("Free-small")
    assert not candidates.by_server["Free-small"]
    assert candidates.by_server["Free-large"]


def test_a_model_without_performance_data() -> None:
    def add(made) -> None:
        rows(made, "serviceClassData")[1]["modelTargets"].append({"model": "huge", "slo-itl": 9})
        server(made, "Free-small")["model"] = "huge"
    assert found(add).reason("Free-small").startswith("no performance data of model 'huge'")


def test_an_accelerator_that_is_not_there() -> None:
    candidates = found(lambda made: rows(made, "modelData")[2].update(acc="C"))
    assert set(candidates.by_server["Free-small"]) == {"A", "2xA"}
    assert "no accelerator 'C'" in candidates.reasons["Free-small"]["C"]


def test_targets_that_nothing_meets() -> None:
    def tighten(made) -> None:
        rows(made, "serviceClassData")[0]["modelTargets"][0]["slo-itl"] = 1
    candidates = found(tighten)
    assert "no accelerator can meet its targets (A: ITL target of 1 ms" in candidates.reason(
        "Premium-small")


@pytest.mark.parametrize("parms", [{}, {"alpha": 0, "beta": 0, "gamma": 0}, {"alpha": 1e-30}])
def test_parameters_of_zero_give_no_candidate(parms) -> None:
    candidates = found(lambda made: rows(made, "modelData")[0].update(perfParms=parms))
    assert "A" not in candidates.by_server["Free-small"]
    assert "zero" in candidates.reasons["Free-small"]["A"]


def test_a_batch_beyond_memory() -> None:
    candidates = found(lambda made: server(made, "Free-small").update(maxBatchSize=10**8))
    assert "expected at most 1000000 together" in candidates.reason("Free-small")


def test_room_for_one_and_no_queue_is_refused() -> None:
    candidates = found(lambda made: server(made, "Free-small").update(maxBatchSize=1))
    assert "room for one request and no queue" in candidates.reason("Free-small")
    waiting = found(lambda made: server(made, "Free-small").update(maxBatchSize=1, maxQueueSize=9))
    assert "room for one" not in waiting.reason("Free-small")


@pytest.mark.parametrize(("current", "candidate", "penalty"), [
    (Allocation(), Allocation("A", 2, cost_cents_per_hour=80.0), 88.0),
    (Allocation("A", 2, 8, 80.0), Allocation("A", 2, 16, 80.0), 0.0),
    (Allocation("A", 3, 8, 120.0), Allocation("A", 2, 8, 80.0), -40.0),
    (Allocation("B", 3, 8, 120.0), Allocation("A", 2, 8, 80.0), 0.1 * 200.0 - 40.0),
    (Allocation("B", 1, 8, 23.0), Allocation(), 0.1 * 23.0 - 23.0),
])
def test_transition_penalty(current, candidate, penalty) -> None:
    assert transition_penalty(current, candidate) == pytest.approx(penalty, rel=1e-6)


def test_replicas_are_counted_in_single_precision() -> None:
    third = float(np.float32(1 / 3))
    assert replicas_for(1.0, third) == 3  # not 4, whatever 1 / third is in doubles
    assert replicas_for(1.0, 0.3) == 4
    assert replicas_for(0.0, 0.3) == 0


def test_half_the_tokens_let_more_into_the_batch() -> None:
    bundle = scale_load(system(), 1.0, 0.5)
    assert bundle.servers["Free-small"].load.output_tokens == 512
    before = find_candidates(system()).by_server["Free-small"]["A"]
    after = find_candidates(bundle).by_server["Free-small"]["A"]
    assert after.max_batch == 2 * before.max_batch
    assert after.num_replicas < before.num_replicas


def test_a_load_beyond_any_number_of_replicas() -> None:
    bundle = system()
    heavy = replace(bundle.servers["Free-large"], load=Load(1e9, 128, 10**7))
    candidates = find_candidates(replace(bundle, servers={heavy.name: heavy}))
    assert not candidates.by_server["Free-large"]
    assert candidates.reason("Free-large")
