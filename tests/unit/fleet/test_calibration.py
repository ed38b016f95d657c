"""Calibration of a fleet's groups from observations, live and from a record."""

import io

import pytest

from penstock.core.errors import InputError
from penstock.fleet.calibration import GroupCalibration, calibration_of_record
from penstock.fleet.load import load_fleet
from penstock.fleet.scaler import scaler_of
from penstock.journal.scaling import ScalingJournal, header
from penstock.perf.calibration.latencies import chain_latencies
from penstock.perf.calibration.values import ServedPoint
from penstock.perf.queueing.parameters import IterationTimes, RequestSize
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    ScalingDecision,
    SeenGroup,
    SeenReplica,
    Totals,
)

FLEET = """
accelerators: [{name: h100-80gb, count: 8}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: azure-2023-conv, rate_per_s: 4, duration_s: 60}]
replicas: [{count: 1, min_replicas: 1, max_replicas: 8}]
run: {beliefs: exact}
scaling: {start_s: 60, calibrate: CALIBRATE}
policies: {scale: static}
"""
LOADS = ((2, 500, 201), (5, 1500, 101), (9, 300, 301))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    path = tmp_path_factory.mktemp("fleet") / "fleet.yaml"
    path.write_text(FLEET.replace("CALIBRATE", "true"))
    return load_fleet(path)


def observations(times, loads=LOADS, replicas=1):
    """Minutes of a group whose replicas have these step times."""
    num = gaps = 0
    ttft_s = itl_s = prompt = output = 0.0
    yield Observation(600.0, (seen(Totals(0, 0, 0, (0,), (0,), 0.0, 0.0), replicas),))
    for minute, (rate, prompts, answers) in enumerate(loads, 1):
        point = ServedPoint(rate, RequestSize(prompts, answers), 256, 1.0, 1.0)
        ttft_ms, itl_ms = chain_latencies([point], [times])[0, 0].tolist()
        more = rate * 60
        num, gaps = num + more, gaps + more * (answers - 1)
        ttft_s, itl_s = ttft_s + more * ttft_ms / 1e3, itl_s + more * (answers - 1) * itl_ms / 1e3
        prompt, output = prompt + more * prompts, output + more * answers
        yield Observation(600.0 + 60.0 * minute, (seen(Totals(
            num, prompt, output, (num,), (gaps,), ttft_s, itl_s), replicas),))


def seen(totals, replicas):
    return SeenGroup(replicas, tuple(SeenReplica(each, "ready", 0.0, Gauges(3, 0, 0.1), 0.0)
                                     for each in range(replicas)), totals)


def slower(calibration, factor):
    times = calibration._believed
    return IterationTimes(times.alpha_ms * factor, times.beta_ms * factor, times.gamma_ms * factor,
                          times.max_step_tokens)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_engine_of_another_speed_is_found(fleet, factor):
    calibration = GroupCalibration(fleet, 0, 0)
    assert calibration.learned() is None
    assert calibration.speed() == 1.0
    for one in observations(slower(calibration, factor)):
        calibration.observe(one, one.observed_s)
    assert calibration.speed() == pytest.approx(1.0 / factor, rel=0.05)
    learned = calibration.learned()
    assert learned.num_points == 3
    value, low, high = learned.parameters["alpha_ms"]
    assert low < value < high
    assert value == pytest.approx(factor * calibration._believed.alpha_ms, rel=0.1)


def test_cold_replicas_teach_nothing(fleet):
    calibration = GroupCalibration(fleet, 0, 0)
    for one in observations(slower(calibration, 1.0), LOADS[:1]):
        calibration.observe(one, one.observed_s - 610.0)
    assert calibration.learned() is None


def test_decisions_of_a_fleet_that_calibrates_say_what_was_learned(fleet):
    scaler = scaler_of(fleet, 0)
    assert scaler.period_s == 60.0
    times = slower(GroupCalibration(fleet, 0, 0), 1.5)
    decisions = [scaler.decide(one, one.observed_s) for one in observations(times)]
    assert decisions[0].learned == ()
    assert decisions[-1].learned[0].speed == pytest.approx(1.0 / 1.5, rel=0.05)


def record(path, lines):
    stream = io.BytesIO()
    journal = ScalingJournal(stream, header("static", {}, 0, "test"))
    for one in lines:
        journal.add(one.observed_s, one, (1,), ScalingDecision((1,), "static"))
    path.write_bytes(stream.getvalue())
    return path


def test_a_record_is_calibrated_from(fleet, tmp_path):
    times = slower(GroupCalibration(fleet, 0, 0), 1.5)
    path = record(tmp_path / "scaling.jsonl", observations(times))
    found = calibration_of_record(path, fleet, 0)
    assert len(found.points) == 3
    assert found.known.times.alpha_ms == pytest.approx(times.alpha_ms, rel=0.1)


def test_a_record_without_counters_is_refused(fleet, tmp_path):
    path = record(tmp_path / "scaling.jsonl", [Observation(0.0, (seen(None, 1),))])
    with pytest.raises(InputError, match="no minute in which the same warm replicas"):
        calibration_of_record(path, fleet, 0)
    path = record(tmp_path / "two.jsonl", [Observation(0.0, (seen(None, 1), seen(None, 1)))])
    with pytest.raises(InputError, match="on 2 groups of replicas; the fleet has 1"):
        calibration_of_record(path, fleet, 0)
