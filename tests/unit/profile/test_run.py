"""Whole sessions."""

from dataclasses import replace
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiles.summary import profiled_runs, summaries
from penstock.profile.measure import Effort
from penstock.profile.run import (
    profile_batch,
    profile_fingerprint,
    profile_load,
    profile_model,
)
from support.scripted_profiling import ARCHITECTURE, WHOLE, ScriptedEngine, session

FP32 = [("fp32", "fp32")]


def test_a_model(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    made = profile_model(session(tmp_path, engine), WHOLE, [8, 64], [1, 4], 4)
    profile = read_profile(tmp_path)
    assert profile.document == {"format": "penstock-profile", "version": 1, **made.document}
    assert profile.document["status"] == "complete"
    assert profile.document["subject"]["weights_from"] == "random, seed 0"
    assert profile.document["subject"]["architecture"]["num_layers"] == 8
    assert profile.document["machine"]["num_cores"] >= 1
    assert profile.document["sessions"][0]["started"].startswith("2026-")
    assert len(profile.document["design"]["points"]) == 4
    assert profile.document["design"]["effort"]["tolerance"] == 0.05
    assert len(summaries(profile.measurements)) == 4
    assert len(engine.loads) == engine.unloads == 1
    assert not profile.is_simulated


def test_a_session_goes_on_with_another(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), seconds=lambda _batch, _run: 1.0)
    hurried = session(tmp_path, engine, effort=Effort(budget_s=12.0))
    assert profile_model(hurried, WHOLE, [8, 64], [1, 4], 4).document["status"] == "out_of_time"
    assert engine.unloads == 1
    again = session(tmp_path, engine)
    assert profile_model(again, WHOLE, [8, 64], [1, 4], 4).document["status"] == "complete"
    document = read_profile(tmp_path).document
    assert [one["status"] for one in document["sessions"]] == ["out_of_time", "complete"]
    assert len(read_profile(tmp_path).counted) == 4 * 5


def test_an_interrupt_leaves_a_profile(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())

    def interrupt(_batch: int) -> None:
        if len(engine.runs) == 10:
            raise KeyboardInterrupt

    engine.on_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        profile_model(session(tmp_path, engine), WHOLE, [8, 64], [1, 4], 4)
    profile = read_profile(tmp_path)
    assert profile.document["status"] == "interrupted"
    assert len(profile.measurements) == 10
    assert engine.loaded is None


def test_fingerprints_leave_out_what_takes_more_accelerators(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    made = profile_fingerprint(session(tmp_path, engine), "maveriq", FP32)
    assert [one["point"] for one in made.document["left_out"]] == [
        "tp1 pp2 fp32 kv fp32", "tp2 pp1 fp32 kv fp32"]
    assert made.document["design"]["design"] == "maveriq"
    assert [one.layers_by_stage for one in engine.loads] == [(1,), (2,)]
    assert len(profiled_runs(read_profile(tmp_path))) == 8


def test_fingerprints_with_further_depths(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    engine.accelerators = 2
    profile_fingerprint(session(tmp_path, engine), "maveriq", FP32, (1, 4, 8))
    runs = profiled_runs(read_profile(tmp_path))
    assert {(run.tensor, run.layers_by_stage) for run in runs} == {
        (1, (1,)), (1, (2,)), (1, (4,)), (1, (8,)), (1, (1, 1)), (1, (2, 1)), (2, (1,)),
        (2, (2,))}
    assert len(runs) == 8 * 4


def test_a_depth_that_the_model_has_not(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    with pytest.raises(InputError, match="9 layers; it has 8"):
        profile_fingerprint(session(tmp_path, engine), "maveriq", FP32, (9,))


def test_a_precision_that_the_engine_has_not_is_left_out_or_refused(tmp_path: Path) -> None:
    class Picky(ScriptedEngine):
        def check(self, configuration: ModelConfiguration) -> None:
            if configuration.precision != "fp32":
                raise InputError(f"precision {configuration.precision}: not here")

    engine = Picky(VirtualClock())
    made = profile_fingerprint(session(tmp_path / "some", engine), "maveriq",
                               [*FP32, ("int4", "fp16")])
    reasons = {one["point"]: one["reason"] for one in made.document["left_out"]}
    assert reasons["tp1 pp1 int4 kv fp16"] == "precision int4: not here"
    with pytest.raises(InputError, match="precision int4: not here"):
        profile_fingerprint(session(tmp_path / "none", engine), "maveriq", [("int4", "fp16")])
    assert not (tmp_path / "none").exists()


def test_a_batch_sweep_says_where_memory_ends(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), most=11)
    made = profile_batch(session(tmp_path, engine), WHOLE, 8, 4, 64)
    assert made.document["design"]["largest_that_fits"] == 11
    assert made.document["design"]["smallest_that_does_not"] == 12
    outcomes = {point.example.batch: point.outcome for point in summaries(made.measurements)}
    assert outcomes == {1: "ok", 2: "ok", 4: "ok", 8: "ok", 16: "out_of_memory",
                        12: "out_of_memory", 10: "ok", 11: "ok"}
    again = ScriptedEngine(VirtualClock(), most=11)
    profile_batch(session(tmp_path, again), WHOLE, 8, 4, 64)
    assert again.runs == again.loads == []


def test_loads(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    half = replace(WHOLE, layers_by_stage=(4,))
    made = profile_load(session(tmp_path, engine), [WHOLE, half], 3)
    kinds = [(one.kind, one.configuration) for one in made.measurements if not one.warm_up]
    assert kinds.count(("load", WHOLE)) == kinds.count(("unload", half)) == 3


def test_a_local_checkpoint_is_named(tmp_path: Path) -> None:
    made = session(tmp_path, ScriptedEngine(VirtualClock()))
    weights = tmp_path / "weights"
    assert replace(made, architecture=replace(ARCHITECTURE, weights=weights)).subject[
        "weights_from"] == str(weights.resolve())
    assert "source" not in made.subject["architecture"]


def test_cuts_of_a_mixture_hold_layers_with_experts(tmp_path: Path) -> None:
    """Its first two layers are dense: cuts of one and two would measure nothing else."""
    spec = replace(ARCHITECTURE.spec, num_experts=4, experts_per_token=2, num_dense_layers=2,
                   expert_intermediate_size=32)
    engine = ScriptedEngine(VirtualClock())
    mixture = replace(session(tmp_path, engine), architecture=replace(ARCHITECTURE, spec=spec))
    made = profile_fingerprint(mixture, "maveriq", FP32, [3, 4, 8])
    assert {one.configuration.layers_by_stage for one in made.measurements} == {(3,), (4,), (8,)}
    assert made.document["design"]["leading_dense_layers"] == 2
