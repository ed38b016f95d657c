"""A user's own measurements correct the shipped rates."""

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import yaml

from penstock.cli.main import main
from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.rate_table import fitted_rates
from penstock.published.measured.correct import Correction, corrected
from penstock.published.measured.own import OwnDeployment, read_own
from penstock.published.measured.predict import predict
from penstock.published.measured.rows import Measured
from support.load_results import BENCH, written

H100 = OwnDeployment("llama-3.1-8b", "h100-80gb", "vllm", "0.19.0")
H200 = OwnDeployment("llama-3.1-8b", "h200", "vllm", "0.24.0")
DECODES, PROMPT = StepFeatures(0, 0.0, 16, 2**14), StepFeatures(4096, 4096**2 / 2, 0, 0)


def point(folder: Path, at: OwnDeployment = H100, tpot: float = 1.0, ttft: float = 1.0,
          **changes: object) -> Measured:
    """A point whose times are the predicted ones times factors."""
    row, = read_own(written(folder, BENCH | changes), at)
    metrics = predict(row).metrics
    return replace(row, tpot_s=tpot * metrics["tpot_s"].value,
                   ttft_s=ttft * metrics["ttft_s"].value)


def left(found: Correction, metric: str) -> float:
    """Corrected over measured times of a metric, less 1: the largest."""
    return max(abs(one.corrected_s / one.measured_s - 1.0) for one in found.points
               if one.metric == metric)


def test_points_as_predicted_change_nothing_and_narrow_the_intervals(tmp_path: Path) -> None:
    exact = point(tmp_path)
    found = [corrected([exact] * count, fitted_rates()) for count in (1, 4, 16)]
    for one in found:
        assert (one.factor, one.prompt_factor) == pytest.approx((1.0, 1.0))
    for metric in ("tpot_s", "ttft_s"):
        first, second, third = (one.intervals[metric] for one in found)
        assert first.before == second.before
        assert first.before >= first.after > second.after > third.after


def test_many_points_decide_and_few_do_less(tmp_path: Path) -> None:
    slow = point(tmp_path, tpot=1.3, ttft=1.3)
    one, many = (corrected([slow] * count, fitted_rates()) for count in (1, 50))
    assert 1.1 < one.factor < many.factor < 1.35
    assert left(one, "tpot_s") > left(many, "tpot_s")
    assert left(many, "tpot_s") < 0.03


def test_slow_first_tokens_are_of_prompts_and_leave_decodes_as_they_are(tmp_path: Path) -> None:
    """One client and long prompts: a time to first token is a step of a prompt."""
    alone = point(tmp_path, H200, ttft=1.2, max_concurrency=1, total_input_tokens=400_000)
    found = corrected([alone] * 20, fitted_rates())
    assert found.prompt_factor > 1.15
    assert left(found, "ttft_s") < 0.04
    assert left(found, "tpot_s") < 0.03
    shipped, own = shipped_and_own(H200, rates_of(found, tmp_path))
    assert own.seconds(*PROMPT) > 1.1 * shipped.seconds(*PROMPT)
    assert own.seconds(*DECODES) == pytest.approx(shipped.seconds(*DECODES), rel=0.05)


def rates_of(found: Correction, folder: Path) -> Path:
    """The corrected rates as a file."""
    path = folder / "rates.yaml"
    path.write_text(yaml.safe_dump(dict(found.document)))
    return path


def shipped_and_own(at: OwnDeployment, rates: Path) -> list[StepTimeModel]:
    """The step times of a replica by the shipped rates, and by those of a file."""
    return [step_time(parse_fleet(yaml.safe_dump({
        "accelerators": [{"name": at.accelerator}], "models": [{"name": at.model}],
        "service_classes": [{"name": "chat"}],
        "traffic": [{"trace": "azure-2023-conv", "rate_per_s": 1, "num_requests": 5}],
        "replicas": [{}], "engine": {"name": at.engine, "version": at.version, **more}})
        ).replicas[0]) for more in ({}, {"rates": str(rates)})]


def test_no_point_makes_rates_faster_than_their_bounds(tmp_path: Path) -> None:
    """The rate of prompts on H200 stands at its bound; a prefix cache would make it look faster."""
    cached = point(tmp_path, H200, ttft=0.3, max_concurrency=1, total_input_tokens=400_000)
    found = corrected([cached] * 20, fitted_rates())
    shipped, own = shipped_and_own(H200, rates_of(found, tmp_path))
    assert own.seconds(*PROMPT) > 0.6 * shipped.seconds(*PROMPT)
    assert own.seconds(*PROMPT) >= own.bound_seconds(PROMPT)


def test_a_fleet_takes_the_corrected_rates(tmp_path: Path) -> None:
    slow = point(tmp_path, tpot=1.2, ttft=1.2)
    bench = BENCH | {"mean_tpot_ms": 1e3 * (slow.tpot_s or 0.0),
                     "mean_ttft_ms": 1e3 * (slow.ttft_s or 0.0)}
    path = written(tmp_path, *[bench] * 20)
    out = tmp_path / "rates.yaml"
    assert main(["profile", "fit", "rates", str(path), "--model", "llama-3.1-8b", "--gpu",
                 "h100-80gb", "--engine", "vllm:0.19.0", "--out", str(out)]) == 0
    shipped, own = (model.predict(StepFeatures(256, 2.0**15, 16, 2**14))
                    for model in shipped_and_own(H100, out))
    assert log(own.total_s / shipped.total_s) == pytest.approx(log(1.2), rel=0.25)
    assert own.high_s / own.total_s < shipped.high_s / shipped.total_s
    assert "20 own points" in own.source


def test_points_that_cannot_be_simulated_are_an_error(tmp_path: Path) -> None:
    row = replace(point(tmp_path), framework="unknown")
    with pytest.raises(InputError, match="no point can be simulated"):
        corrected([row], fitted_rates())
