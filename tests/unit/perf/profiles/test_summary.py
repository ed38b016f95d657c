"""Repeats joined, for estimators and for fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import Profile, write_profile
from penstock.perf.profiles.points import Measurement, ModelConfiguration, Outcome
from penstock.perf.profiles.step_tables import read_steps
from penstock.perf.profiles.summary import (
    profile_steps,
    profiled_runs,
    read_runs,
    same_prompts,
    summaries,
)

CUT = ModelConfiguration("llama", (1, 1), "fp16", "fp16", 2)


def rows(*seconds: float, **changes: Any) -> list[Measurement]:
    return [replace(Measurement("batch", CUT, 4, 100, 11, repeat=number, seconds=value,
                                first_token_s=value / 2, decode_step_s=value / 20,
                                num_prefill_steps=1, memory_bytes=3e9, memory_loaded_bytes=2e9),
                    **changes)
            for number, value in enumerate(seconds)]


def failed(outcome: Outcome, **changes: Any) -> Measurement:
    return replace(rows(1.0)[0], outcome=outcome, seconds=None, first_token_s=None,
                   decode_step_s=None, reason="so it was", **changes)


def profile(*measurements: Measurement) -> Profile:
    return Profile({}, measurements, "here")


def test_repeats_become_their_median() -> None:
    (point,) = summaries([*rows(9.0, warm_up=True), *rows(1.0, 3.0, 2.0)])
    assert point.num_repeats == 3
    assert point.seconds is not None
    assert (point.seconds.median, point.seconds.low, point.seconds.high) == (2.0, 1.0, 3.0)
    assert (point.first_token_s, point.decode_step_s) == (1.0, 0.1)
    assert point.outcome == "ok"


def test_points_come_in_the_order_of_their_first_rows() -> None:
    points = summaries([*rows(1.0, batch=8), *rows(1.0, batch=2), *rows(1.0, 1.0, batch=8)])
    assert [point.example.batch for point in points] == [8, 2]
    assert [point.num_repeats for point in points] == [3, 1]


def test_a_batch_is_a_run() -> None:
    (run,) = profiled_runs(profile(*rows(1.0, 3.0, 2.0)))
    assert (run.model, run.tensor, run.pipeline, run.layers_by_stage) == ("llama", 2, 2, (1, 1))
    assert (run.prompt_tokens, run.output_tokens, run.batch) == (100, 11, 4)
    assert (run.latency_s, run.memory_bytes, run.memory_loaded_bytes) == (2.0, 3e9, 2e9)
    assert run.source == f"here: {rows(1.0)[0].key}"


def test_what_did_not_fit_is_a_run_without_latency_and_other_failures_are_none() -> None:
    runs = profiled_runs(profile(failed("out_of_memory"), failed("failed", batch=5),
                                 failed("killed", batch=6)))
    assert [(run.batch, run.latency_s) for run in runs] == [(4, None)]


def test_loads_and_requests_are_no_runs() -> None:
    assert profiled_runs(profile(*rows(1.0, kind="load"), *rows(1.0, kind="request"))) == []


def test_runs_of_a_folder(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, rows(1.0, 2.0, 4.0))
    assert [run.latency_s for run in read_runs(tmp_path)] == [2.0]
    write_profile(tmp_path / "loads", {}, rows(1.0, kind="load"))
    with pytest.raises(InputError, match="holds no runs of whole batches"):
        read_runs(tmp_path / "loads")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither a profile nor a CSV"):
        read_runs(tmp_path / "empty")


def test_runs_with_the_usual_prompts() -> None:
    (run,) = profiled_runs(profile(*rows(1.0)))
    short, long = replace(run, prompt_tokens=8), replace(run, prompt_tokens=1024)
    other, unknown = replace(long, model="other"), replace(run, model="third", prompt_tokens=None)
    runs = [short, long, replace(short, batch=8), other, unknown]
    assert same_prompts(runs) == [short, replace(short, batch=8), other, unknown]
    assert same_prompts([long, short]) == [short]
    assert same_prompts([]) == []


def test_batches_are_steps() -> None:
    table = profile_steps(profile(*rows(2.0)))
    assert table.prefill_tokens.tolist() == [400, 0]
    assert table.attention_work.tolist() == [4 * 100 * 50, 0]
    assert table.decode_seqs.tolist() == [0, 4]
    assert table.context_tokens.tolist() == [0, 4 * (100 + 5.5)]
    assert table.seconds.tolist() == [1.0, 0.1]


def test_prompts_in_several_steps_and_warm_ups_are_no_step() -> None:
    table = profile_steps(profile(*rows(2.0, num_prefill_steps=3), *rows(3.0, warm_up=True),
                                  failed("out_of_memory", batch=9)))
    assert table.decode_seqs.tolist() == [4]
    with pytest.raises(InputError, match="holds no steps"):
        profile_steps(profile(*rows(2.0, warm_up=True)))


def test_steps_of_several_configurations_do_not_mix() -> None:
    other = replace(CUT, layers_by_stage=(2, 2))
    with pytest.raises(InputError, match="steps of 2 configurations"):
        profile_steps(profile(*rows(1.0), *rows(1.0, configuration=other)))


def test_the_folder_is_read_as_steps(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, rows(2.0))
    assert read_steps(tmp_path).seconds.tolist() == [1.0, 0.1]
    with pytest.raises(InputError, match=r"no profile\.json"):
        read_steps(tmp_path / "..")
