"""Results of load tools on a user's own engine are points."""

from pathlib import Path

import pytest

from penstock.cli.main import main
from penstock.core.errors import InputError
from penstock.published.measured.own import OwnDeployment, read_own
from support.load_results import BENCH, written

AT = OwnDeployment("llama-3.1-8b", "h100-80gb", "vllm", "0.19.0")
GUIDELLM = {"benchmarks": [{
    "config": {"strategy": {"type_": "concurrent", "streams": 8}},
    "metrics": {"request_totals": {"successful": 100}, **{
        name: {"successful": {"mean": mean}} for name, mean in {
            "prompt_token_count": 500, "output_token_count": 100, "time_to_first_token_ms": 40,
            "inter_token_latency_ms": 8, "output_tokens_per_second": 900}.items()}}}]}


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


@pytest.mark.parametrize("more", [["--engine", "vlm"], ["--gpu", "h200x"], ["--model", "lama"]])
def test_unknown_names_are_refused(tmp_path: Path, more, capsys) -> None:
    given = {"--model": "llama-3.1-8b", "--gpu": "h100-80gb", "--engine": "vllm", more[0]: more[1]}
    options = [text for pair in given.items() for text in pair]
    assert main(["profile", "fit", "rates", str(written(tmp_path, BENCH)), *options]) == 2
    assert "did you mean" in capsys.readouterr().err
