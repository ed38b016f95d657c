"""A user's own measurements correct the shipped rates."""

import json
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
from penstock.perf.step_time.rate_table import fitted_rates
from penstock.published.measured.own import OwnDeployment, corrected, read_own

AT = OwnDeployment("llama-3.1-8b", "h100-80gb", "vllm", "0.19.0")
STEP = StepFeatures(256, 2.0**15, 16, 2**14)
BENCH = {"num_prompts": 100, "request_rate": "inf", "max_concurrency": 8, "completed": 100,
         "total_input_tokens": 50_000, "total_output_tokens": 10_000, "output_throughput": 900.0,
         "mean_ttft_ms": 40.0, "mean_tpot_ms": 8.0}
GUIDELLM = {"benchmarks": [{
    "config": {"strategy": {"type_": "concurrent", "streams": 8}},
    "metrics": {"request_totals": {"successful": 100}, **{
        name: {"successful": {"mean": mean}} for name, mean in {
            "prompt_token_count": 500, "output_token_count": 100, "time_to_first_token_ms": 40,
            "inter_token_latency_ms": 8, "output_tokens_per_second": 900}.items()}}}]}


def written(folder: Path, *records, name: str = "own.json") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def rows(folder: Path, *records):
    return read_own(written(folder, *records), AT)


def test_load_tools_say_the_same_of_the_same_run(tmp_path: Path) -> None:
    one, = rows(tmp_path, BENCH)
    other, = rows(tmp_path, GUIDELLM)
    assert one == other
    assert (one.load_kind, one.load_value, one.isl, one.osl) == ("concurrency", 8.0, 500.0, 100.0)
    assert (one.ttft_s, one.tpot_s, one.own) == (0.04, 0.008, True)


@pytest.mark.parametrize(("changes", "kind", "value"), [
    ({"request_rate": 5.0}, "rate", 5.0), ({"max_concurrency": None}, "burst", 100.0)])
def test_loads_of_bench_serving(tmp_path: Path, changes, kind, value) -> None:
    found, = rows(tmp_path, BENCH | changes)
    assert (found.load_kind, found.load_value) == (kind, value)


def test_lines_of_json_are_results_each(tmp_path: Path) -> None:
    assert [row.row for row in rows(tmp_path, BENCH, BENCH | {"max_concurrency": 16})] == [1, 2]


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", '{"benchmarks": [{}]}',
                                  '{"mean_tpot_ms": 1}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(InputError, match="own"):
        read_own(path, AT)


def test_points_as_predicted_change_nothing_and_narrow_the_interval(tmp_path: Path) -> None:
    row, = rows(tmp_path, BENCH)
    _, predicted_s = corrected([row], fitted_rates()).points[0]
    exact = replace(row, tpot_s=predicted_s)
    intervals = []
    for count in (1, 4, 16):
        found = corrected([exact] * count, fitted_rates())
        assert found.factor == pytest.approx(1.0)
        intervals.append(found.interval)
    assert found.interval_before > intervals[0] > intervals[1] > intervals[2]


def test_many_points_decide_and_few_do_less(tmp_path: Path) -> None:
    row, = rows(tmp_path, BENCH)
    _, predicted_s = corrected([row], fitted_rates()).points[0]
    slow = replace(row, tpot_s=1.3 * predicted_s)
    one, many = (corrected([slow] * count, fitted_rates()).factor for count in (1, 50))
    assert 1.1 < one < many < 1.3
    assert many == pytest.approx(1.3, rel=0.02)


def test_a_fleet_takes_the_corrected_rates(tmp_path: Path) -> None:
    row, = rows(tmp_path, BENCH)
    _, predicted_s = corrected([row], fitted_rates()).points[0]
    bench = BENCH | {"mean_tpot_ms": 1.2e3 * predicted_s}
    path = written(tmp_path, *[bench] * 20)
    out = tmp_path / "rates.yaml"
    assert main(["profile", "fit", "rates", str(path), "--model", "llama-3.1-8b", "--gpu",
                 "h100-80gb", "--engine", "vllm:0.19.0", "--out", str(out)]) == 0
    times = []
    for more in ({}, {"rates": str(out)}):
        fleet = parse_fleet(yaml.safe_dump({
            "accelerators": [{"name": "h100-80gb"}], "models": [{"name": "llama-3.1-8b"}],
            "service_classes": [{"name": "chat"}],
            "traffic": [{"trace": "azure-2023-conv", "rate_per_s": 1, "num_requests": 5}],
            "replicas": [{}], "engine": {"name": "vllm", "version": "0.19.0", **more}}))
        times.append(step_time(fleet.replicas[0]).predict(STEP))
    shipped, own = times
    assert log(own.total_s / shipped.total_s) == pytest.approx(log(1.2), rel=0.25)
    assert own.high_s / own.total_s < shipped.high_s / shipped.total_s
    assert "20 own points" in own.source


@pytest.mark.parametrize("more", [["--engine", "vlm"], ["--gpu", "h200x"], ["--model", "lama"]])
def test_unknown_names_are_refused(tmp_path: Path, more, capsys) -> None:
    given = {"--model": "llama-3.1-8b", "--gpu": "h100-80gb", "--engine": "vllm", more[0]: more[1]}
    options = [text for pair in given.items() for text in pair]
    assert main(["profile", "fit", "rates", str(written(tmp_path, BENCH)), *options]) == 2
    assert "did you mean" in capsys.readouterr().err
