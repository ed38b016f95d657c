"""The published mode against output of the upstream programs."""

import json

import numpy as np
import pytest

from penstock.perf.queueing.parameters import (
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
)
from penstock.published.inferno.queueing.analysis import InfernoQueues
from penstock.published.inferno.queueing.concurrency import closed_form_batches, optimal_concurrency
from penstock.published.inferno.queueing.rates import IterationService
from penstock.published.inferno.queueing.sizing import size, size_one
from penstock.published.inferno.values import Targets

RELATIVE = 2e-3
WAIT_MS = 0.05
FIELDS = {"OfferedRate": "offered_per_s", "Throughput": "throughput_per_s",
          "AvgRespTime": "response_ms", "AvgNumInServ": "in_service",
          "AvgPrefillTime": "prefill_ms", "AvgTokenTime": "itl_ms", "MaxRate": "max_rate_per_s",
          "Rho": "utilisation"}


def read(shared_data, name):
    path = shared_data / "inferno" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def spec(given) -> QueueSpec:
    if "Delta" in given:
        times = DecodePrefillTimes(given["Alpha"], given["Beta"], given["Gamma"], given["Delta"])
    else:
        times = IterationTimes(given["Alpha"], given["Beta"], given["Gamma"], given["T"] or 8192)
    return QueueSpec(times, RequestSize(given["In"], given["Out"]), given["N"], given["Q"])


def targets(given) -> Targets:
    return Targets(given["TTFT"], given["ITL"], given["TPS"])


def assert_metrics(ours, theirs) -> None:
    for name, field in FIELDS.items():
        if name in theirs:
            assert getattr(ours, field) == pytest.approx(theirs[name], rel=RELATIVE), name
    assert ours.wait_ms == pytest.approx(theirs["AvgWaitTime"], rel=RELATIVE, abs=WAIT_MS)
    if "AvgTTFT" in theirs:
        assert ours.ttft_ms == pytest.approx(theirs["AvgTTFT"], rel=RELATIVE, abs=WAIT_MS)


def assert_sizing(ours, record) -> None:
    assert (ours.error is not None) == ("sizeError" in record)
    if "sizeError" in record:
        return
    theirs = record["size"]
    assert_metrics(ours.metrics, theirs["metrics"])
    for name in ("TTFT", "ITL", "TPS"):
        rate = getattr(ours, f"rate_{name.lower()}_per_s")
        assert rate == pytest.approx(theirs["targetRate"][f"RateTarget{name}"], rel=RELATIVE)
    achieved = theirs["achieved"]
    assert ours.metrics.ttft_ms == pytest.approx(achieved["TargetTTFT"], rel=RELATIVE, abs=WAIT_MS)
    assert ours.metrics.itl_ms == pytest.approx(achieved["TargetITL"], rel=RELATIVE)
    assert ours.tokens_per_s == pytest.approx(achieved["TargetTPS"], rel=RELATIVE)


@pytest.mark.parametrize("generation", [1, 2])
def test_queue_records(shared_data, generation: int) -> None:
    records = read(shared_data, f"golden_queue_v{generation}.json")
    for record in records:
        given = record["in"]
        model = InfernoQueues([spec(given)])
        assert model.min_rate_per_s[0] == pytest.approx(record["rateMin"], rel=1e-5)
        assert model.max_rate_per_s[0] == pytest.approx(record["rateMax"], rel=1e-5)
        for point in record["analyze"]:
            theirs = point.get("metrics", point)
            rate = point.get("rate", point.get("OfferedRate"))
            assert_metrics(model.metrics(np.array([rate])).row(0), theirs)
        assert_sizing(size_one(spec(given), targets(given)), record)


def test_records_sized_together_are_the_same(shared_data) -> None:
    records = [record for generation in (1, 2)
               for record in read(shared_data, f"golden_queue_v{generation}.json")]
    inputs = [record["in"] for record in records]
    sized = size([spec(each) for each in inputs], [targets(each) for each in inputs])
    for ours, record in zip(sized, records, strict=True):
        assert_sizing(ours, record)


def test_chunks_and_concurrency(shared_data) -> None:
    for record in read(shared_data, "golden_queue_v2.json"):
        given, theirs = record["in"], record["optimalConcurrency"]
        service = IterationService([spec(given)])
        batches = np.arange(1.0, given["N"] + 1.0)[None, :]
        assert service.chunks(batches)[0].tolist() == record["numChunks"]
        ours = optimal_concurrency(spec(given), targets(given), given["MMax"])
        assert (ours.max_batch, ours.itl_batch, ours.prefill_batch, ours.calls, ours.feasible) == (
            theirs["Concurrency"], theirs["MITL"], theirs["MTPF"], theirs["Calls"],
            theirs["Feasible"])
        assert list(ours.probes) == theirs["Probes"]
        assert ours.throughput_per_s == pytest.approx(theirs["Throughput"], rel=RELATIVE)
        assert ours.anchor_per_s == pytest.approx(theirs["AnchorThroughput"], rel=RELATIVE)
        if theirs["Metrics"]:
            assert_metrics(ours.metrics, theirs["Metrics"])


def scenario_queue(scenario) -> tuple[QueueSpec, Targets]:
    times = IterationTimes(scenario["alpha"], scenario["beta"], scenario["gamma"])
    size = RequestSize(scenario["AvgInputTokens"], scenario["AvgOutputTokens"])
    return (QueueSpec(times, size, 256, scenario["maxQueueSize"]),
            Targets(scenario["targetTTFT"], scenario["targetITL"]))


def scenarios(shared_data):
    found = [*read(shared_data, "onset/scenarios.json")["scenarios"],
             *read(shared_data, "onset/scenarios_benchmark.json")["scenarios"]]
    return {each["name"]: each for each in found}


def test_onset_scenarios(shared_data) -> None:
    known = scenarios(shared_data)
    for theirs in read(shared_data, "onset/expected_formula_guided.json")["records"]:
        queue, wanted = scenario_queue(known[theirs["scenario"]])
        ours = optimal_concurrency(queue, wanted, 256)
        assert (ours.max_batch, ours.calls, ours.feasible) == (
            theirs["M_chosen"], theirs["calls"], theirs["feasible"]), theirs["scenario"]
        assert ours.throughput_per_s == pytest.approx(theirs["throughput_chosen"], rel=RELATIVE)


def test_throughput_by_batch_limit(shared_data) -> None:
    queue, wanted = scenario_queue(scenarios(shared_data)["baseline"])
    points = read(shared_data, "onset/truth-baseline.json")["f_curve"]
    queues = [QueueSpec(queue.times, queue.size, point["m"], queue.max_queue) for point in points]
    for ours, point in zip(size(queues, [wanted] * len(queues)), points, strict=True):
        found = ours.metrics.throughput_per_s if ours.metrics else 0.0
        assert found == pytest.approx(point["throughput"], rel=RELATIVE), point["m"]


def test_primitives(shared_data) -> None:
    for record in read(shared_data, "onset/golden_primitives.json"):
        times = IterationTimes(record["alpha"], record["beta"], record["gamma"])
        size = RequestSize(record["AvgInputTokens"], record["AvgOutputTokens"])
        service = IterationService([QueueSpec(times, size, record["B"])])
        batch = np.array([[float(record["B"])]])
        chunks = service.chunks(batch)
        assert chunks[0, 0] == record["nc"]
        for name, ours in (("iter_time", service.iteration_ms(batch, chunks)),
                           ("prefill", service.prefill_ms(batch, chunks)),
                           ("itl", service.itl_ms(batch, chunks)),
                           ("tau", service.residence_ms(batch, chunks))):
            assert ours[0, 0] == pytest.approx(record[name], rel=1e-5), name


def test_closed_forms_take_the_last_batch_that_fits() -> None:
    queue = QueueSpec(IterationTimes(12, .05, .0005), RequestSize(128, 512), 48, 128)
    assert closed_form_batches(queue, Targets(60, 20), 256) == (31, 164)
    assert closed_form_batches(queue, Targets(), 256) == (1, 1)


@pytest.mark.parametrize(("per_min", "slots", "empty", "no_wait", "in_system", "in_service",
                          "response_ms", "service_ms", "wait_ms", "token_ms"), [
    (30, 32, 5.7982e-7, 0.93803, 21.24, 20.90, 42481, 41808, 674, 40.8),
    (35.20031, 48, 1.0542e-8, 0.96847, 30.23, 30.04, 51533, 51200, 333, 50.0),
    (36.613, 48, 3.001e-9, 0.92202, 33.78, 33.16, 55349, 54349, 1000, 53.1)])
def test_single_replica_slides(per_min, slots, empty, no_wait, in_system, in_service, response_ms,
                               service_ms, wait_ms, token_ms) -> None:
    """The talks of 2024 have no prefill and 1024 decode steps, in 200 states."""
    queue = QueueSpec(DecodePrefillTimes(19, 1), RequestSize(0, 1025), slots, 200 - slots)
    model = InfernoQueues([queue])
    rate = np.array([per_min / 60])
    occupancy = model.chain.occupancy(rate / 1000.0)
    assert occupancy.probabilities[0, 0] == pytest.approx(empty, rel=2e-4)
    assert occupancy.probabilities[0, :slots + 1].sum() == pytest.approx(no_wait, rel=2e-5)
    assert occupancy.in_system[0] == pytest.approx(in_system, abs=0.006)
    ours = model.metrics(rate).row(0)
    assert ours.in_service == pytest.approx(in_service, abs=0.006)
    assert ours.response_ms == pytest.approx(response_ms, abs=0.6)
    assert ours.response_ms - ours.wait_ms == pytest.approx(service_ms, abs=0.6)
    assert ours.wait_ms == pytest.approx(wait_ms, abs=0.6)
    assert ours.itl_ms == pytest.approx(token_ms, abs=0.06)
