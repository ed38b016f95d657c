"""Inferno's tuner against its written formulas, its configuration file and its measured trace."""

import csv
import json

import numpy as np
import pytest

from penstock.perf.queueing.parameters import IterationTimes
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.tuner.ekf import new_filter, step
from penstock.published.inferno.tuner.fits import condition_number, first_fit
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.values import FilterConfig, OperatingPoint, read_config


@pytest.fixture(scope="module")
def folder(shared_data):
    found = shared_data / "inferno"
    if not found.is_dir():
        pytest.skip(f"no {found}")
    return found


@pytest.mark.parametrize("case", ["three_points", "single_point"])
def test_the_filter_follows_the_derived_trajectory(folder, case):
    derived = json.loads((folder / "derived_ekf_trajectory.json").read_text())
    of, estimate = new_filter(FilterConfig())
    for record in derived[case]:
        point = OperatingPoint(*record["env"], *record["z"])
        assert predicted([point], np.array([derived["truth"]]))[0, 0] == pytest.approx(
            record["z"], rel=1e-9)
        found = step(of, estimate, point, None)
        estimate = found.estimate
        assert estimate.state == pytest.approx(record["x"], rel=1e-6)
        assert found.nis == pytest.approx(record["nis"], rel=1e-6)


def test_the_default_configuration_is_upstream_s(folder):
    assert read_config(folder / "tuner-default-config.json") == FilterConfig()


def test_the_filter_follows_a_measured_trace(folder):
    """OPT-125M on an A100, prompts left out, with upstream's configuration for such traces."""
    of, estimate = new_filter(FilterConfig(
        error_level=0.05, init_state=(1.0, 0.01), percent_change=(0.1, 0.1),
        least_state=(0.1, 0.001), most_state=(50.0, 2.0), expected_observations=(200.0, 2.0)))
    off = []
    with (folder / "tuner-exp13.csv").open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            point = OperatingPoint(float(row["RPM"]), int(row["maxConcurrency"]), 0, 0.0,
                                   float(row["tokens"]), float(row["avgWait"]),
                                   float(row["avgITL"]))
            found = step(of, estimate, point, None)
            estimate = found.estimate
            off.append(abs(found.innovation[1]) / point.itl_ms)
    assert len(off) == 86
    assert off[0] > 0.5  # the first state is far off
    assert np.mean(off[10:]) < 0.05  # predicted before the observation is used
    assert estimate.state == pytest.approx((2.85, 0.0094), rel=0.01)


def test_a_fit_finds_parameters_learned_on_an_h100(folder):
    names = {"acceleratorData": "accelerator-data", "modelData": "model-data",
             "serviceClassData": "serviceclass-data", "capacityData": "capacity-data",
             "optimizerData": "optimizer-data"}
    system = parse_bundle({"system": {
        "serverData": {"servers": []},
        **{part: json.loads((folder / "vllm_gpu_seed" / f"{name}.json").read_text())
           for part, name in names.items()}}}, "vllm_gpu_seed")
    for profile in system.profiles.values():
        times = profile.times
        assert isinstance(times, IterationTimes)
        truth = times.alpha_ms, times.beta_ms, times.gamma_ms
        points = [observed(profile.max_batch_size, *load, truth) for load in (
            (60, 256, 512), (180, 1024, 256), (120, 512, 1024), (30, 2048, 128), (240, 128, 300))]
        found = first_fit(points, FilterConfig().init_state, 1000.0)
        assert found is not None
        assert found.state == pytest.approx(truth, rel=1e-4)
        assert found.condition == pytest.approx(condition_number(points, found.state))
        assert found.condition < 100


def observed(max_batch, rate_per_min, prompt, answer, state):
    blank = OperatingPoint(rate_per_min, max_batch, 0, prompt, answer, 1.0, 1.0)
    ttft_ms, itl_ms = predicted([blank], np.array([state]))[0, 0].tolist()
    return OperatingPoint(rate_per_min, max_batch, 0, prompt, answer, ttft_ms, itl_ms)
