"""The reproduction of Inferno's loop: emulated load, data folders, figures."""

import json

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.published.figures import Options
from penstock.published.inferno.loop import run
from penstock.published.inferno.loop.emulated import EmulatedCycle, emulated_run
from penstock.published.inferno.loop.learners import errors, learn, observed, state_of
from support.inferno_cycles import cycle, written


def test_the_loop_equals_a_direct_question_in_every_cycle():
    found = list(emulated_run(np.random.default_rng(3), num_cycles=11))
    asked = [one for one in found if one.expected is not None]
    assert len(asked) == 3  # the tuner warms up for eight cycles
    assert all(one.decided == one.expected for one in asked)
    assert all(one.decided == (4, 2) for one in found[:8])
    assert asked[-1].decided != (4, 2)


@pytest.fixture
def quick(monkeypatch):
    """Leave the emulated load out."""
    monkeypatch.setattr(run, "_emulated", lambda _: ([], {}))


def test_without_data_the_emulated_load_alone_is_compared(monkeypatch):
    cycles = [EmulatedCycle(1, (60.0, 30.0), (4, 2), None),
              EmulatedCycle(2, (60.0, 30.0), (3, 1), (3, 1)),
              EmulatedCycle(3, (90.0, 40.0), (4, 1), (5, 1))]
    monkeypatch.setattr(run, "emulated_run", lambda _: iter(cycles))
    found = run.reproduce_inferno_loop(None, Options())
    (figure,) = found.figures
    assert (figure.published, figure.ours, figure.agrees) == (10, 5, False)
    assert len(found.rows["emulated.csv"]) == 15
    assert "Emulated load: the loop and /optimizeOne" in found.tables


def test_logs_of_documented_runs_are_found_in_a_checkout(quick, tmp_path):
    folder = tmp_path / "experiments" / "run15"
    folder.mkdir(parents=True)
    written(folder / "armB-cycles.jsonl", [cycle(1, 60.0, 50)])
    (tmp_path / "run99").mkdir()
    written(tmp_path / "run99" / "armB-cycles.jsonl", [cycle(1, 60.0, 50)])
    found = run.reproduce_inferno_loop(tmp_path, Options())
    assert not found.agrees  # 50 replicas are not what the optimizer answers
    assert [row["run"] for row in found.tables["Recorded runs: decisions"]] == ["run15 armB"]
    assert found.rows["cycles.csv"][0]["recorded"] == 50


def test_a_folder_without_any_file_is_refused(quick, tmp_path):
    with pytest.raises(InputError, match=r"holds no derived_ekf_trajectory\.json"):
        run.reproduce_inferno_loop(tmp_path, Options())


@pytest.mark.parametrize(("name", "text"), [
    ("derived_ekf_trajectory.json", "{}"), ("tuner-exp13.csv", "a,b\n1,2\n"),
    ("vllm_gpu_seed/model-data.json", json.dumps({"models": [{}]}))])
def test_a_file_of_another_form_is_refused(quick, tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        run.reproduce_inferno_loop(tmp_path, Options())


def test_learners_stand_beside_each_other():
    truth = (8.0, 0.033, 0.000333)
    points = [observed(load, 256, truth) for load in run.SEED_LOADS]
    found = learn(points)
    assert max(map(abs, errors(state_of(found.ours.times), truth))) < 0.02
    assert max(map(abs, errors(found.simplex, truth))) < 1e-3
    assert max(map(abs, errors(found.filter, truth))) > 0.2
