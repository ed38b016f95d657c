"""Logs of the tuner: observations and states by cycle, replayed with both learners."""

import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.loop.learners import observed
from penstock.published.inferno.loop.trajectories import replay
from penstock.published.inferno.loop.tuner_log import read_tuner_log
from penstock.published.inferno.tuner.tuner import Tuner
from penstock.published.inferno.tuner.values import TunerSettings

TRUTH = (8.0, 0.016, 0.0005)
LOADS = ((15, 2048, 1024), (25, 1800, 900), (20, 2200, 1100), (30, 1500, 1200), (18, 2100, 800),
         (28, 1900, 1000))
SETTINGS = TunerSettings("ekf", 2, 3, condition_limit=0.0)


def seen(load):
    point = observed(load, 128, TRUTH)
    rate, prompt, answer = load
    return (f"2026/04/18 15:27:48 INFO replica environment model=m accelerator=H100 replica=0 "
            f"arrivalRateRPM={rate} maxBatch=128 avgInTokens={prompt} avgOutTokens={answer} "
            f"avgTTFT={point.ttft_ms!r} avgITL={point.itl_ms!r}")


def log_of(states):
    lines = []
    for load, state in zip(LOADS, states, strict=False):
        lines += [seen(load), "[GIN] 200 | POST /tune"]
        lines.append(
            'WARN tuning failed for group key=m/H100 err="collecting"' if state is None else
            "INFO tuned parameters model=m accelerator=H100 alpha={} beta={} gamma={} NIS=0".format(
                *state))
    return "\n".join(lines)


def own_states():
    tuner = Tuner(SETTINGS)
    states = []
    for load in LOADS:
        learned = tuner.tune([observed(load, 128, TRUTH)])
        states.append(None if learned is None else learned.state)
    return states


def test_a_log_of_our_own_tuner_is_followed(tmp_path):
    path = tmp_path / "tuner.log"
    path.write_text(log_of(own_states()))
    cycles = list(read_tuner_log(path, 0, one_chunk=False))
    assert [one.state is None for one in cycles] == [True, True, False, False, False, False]
    assert all(len(one.points) == 1 and one.model == "m" for one in cycles)
    found = list(replay(cycles, SETTINGS, {"m": TRUTH}))
    assert len(found) == 4
    assert max(one.deviation for one in found) < 1e-9
    assert max(map(abs, found[-1].ours)) < 0.02


def test_another_state_deviates(tmp_path):
    path = tmp_path / "tuner.log"
    path.write_text(log_of([state and (2.0 * state[0], *state[1:]) for state in own_states()]))
    found = list(replay(list(read_tuner_log(path, 0, one_chunk=False)), SETTINGS, {"m": TRUTH}))
    assert found[0].deviation == pytest.approx(0.5)


def test_a_line_without_a_value_is_named(tmp_path):
    path = tmp_path / "tuner.log"
    path.write_text("INFO replica environment model=m arrivalRateRPM=x maxBatch=1")
    with pytest.raises(InputError, match=r"tuner\.log:1: expected values of 'replica environment'"):
        list(read_tuner_log(path, 0, one_chunk=False))
    with pytest.raises(InputError, match="No such file"):
        list(read_tuner_log(tmp_path / "none.log", 0, one_chunk=False))
