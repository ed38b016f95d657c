"""GuideLLM's files, theirs and ours."""

import asyncio
import json
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.experiment.load.bench import Target, bench
from penstock.experiment.load.guidellm import read_guidellm
from penstock.experiment.load.guidellm_write import guidellm_document
from penstock.experiment.load.plan import LoadOptions, option_plan
from support.fake_http_engines import DONE, event, http_engine, streaming, token, usage, whole

SLO = Slo(ttft_s=30.0)
ANSWER = (token("a"), token("b"), token("c", "length"),
          event({"choices": [], "usage": usage(20, 3)}), DONE)


def test_a_file_that_guidellm_wrote(repository) -> None:
    """Cut to four requests of ``guidellm run --profile kind=poisson,rate=5`` on an emulated engine,
    release 0.7.2."""
    path = repository / "tests/golden/data/guidellm-0.7.2.json"
    (run,) = read_guidellm(path, SLO, "chat")
    entries = json.loads(path.read_text())["benchmarks"][0]["requests"]["successful"]
    table = run.table
    timings = [one["info"]["timings"] for one in entries]
    assert len(table) == 4
    assert table.output_tokens.tolist() == [one["output_tokens"] for one in entries]
    assert table.prompt_tokens.tolist() == [one["prompt_tokens"] for one in entries]
    assert table.ttft_s.tolist() == pytest.approx(
        [one["first_token_iteration"] - one["targeted_start"] for one in timings])
    assert (1000 * table.tpot_s).tolist() == pytest.approx(
        [one["inter_token_latency_ms"] for one in entries])
    assert table.itl_mean_s.tolist() == pytest.approx(table.tpot_s.tolist())
    assert np.isnan(table.itl_p99_s).all(), "the file does not tell"
    assert run.summary.document()["load"]["url"] == "http://127.0.0.1:8112"
    assert run.summary.document()["load"]["loop"] == "open"
    assert run.summary.document()["classes"]["chat"]["finished"] == 4
    assert max(run.summary.document()["generator"]["lateness_s"].values()) < 0.1


@pytest.fixture(scope="module")
def measured():
    numbers = count()

    async def answer(request):
        bad = whole({"error": {"message": "busy"}}, 429)
        return await (bad if next(numbers) % 4 == 3 else streaming(*ANSWER))(request)

    async def run():
        async with http_engine(answer) as url:
            return await bench(Target(url), option_plan(
                LoadOptions(500.0, 24, prompt="20", output="3", slo=SLO)))

    return asyncio.run(run())


def test_what_is_written_reads_back_the_same(measured, tmp_path) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(guidellm_document([measured, measured])))
    for again in read_guidellm(path, SLO):
        assert again.summary.document()["outcomes"] == measured.summary.document()["outcomes"]
        assert again.summary.overall.attainment == measured.summary.overall.attainment
        # Moments are written as seconds since 1970, which keep a quarter of a microsecond.
        for column in ("ttft_s", "e2e_s", "tpot_s"):
            assert getattr(again.table, column) == pytest.approx(
                getattr(measured.table, column), abs=1e-6, nan_ok=True)
        assert again.table.status.tolist() == measured.table.status.tolist()


def test_figures_of_what_is_written_are_those_of_the_requests(measured) -> None:
    (written,) = guidellm_document([measured])["benchmarks"]
    done = measured.table.take(measured.table.finished)
    spread = written["metrics"]["output_token_count"]["successful"]
    assert (spread["count"], spread["mean"], spread["std_dev"]) == (len(done), 3.0, 0.0)
    ttft = written["metrics"]["time_to_first_token_ms"]["successful"]
    sent_s = measured.sent_s[measured.table.finished]
    from_sent_ms = 1000 * float(np.mean(done.first_token_s - sent_s))
    assert ttft["mean"] == pytest.approx(from_sent_ms, rel=1e-3)
    assert written["metrics"]["request_totals"] == {
        "successful": 18, "errored": 6, "incomplete": 0, "total": 24}
    assert written["requests"]["errored"][0]["info"]["error"] == "refused: status 429: busy"
    rate = written["metrics"]["requests_per_second"]["total"]["mean"]
    assert rate == pytest.approx(24 / written["duration"])


def guidellm_command():
    """GuideLLM's command beside this interpreter or on PATH, else None."""
    beside = Path(sys.executable).with_name("guidellm")
    return str(beside) if beside.exists() else shutil.which("guidellm")


@pytest.mark.skipif(guidellm_command() is None, reason="guidellm is not installed")
def test_guidellm_itself_takes_what_is_written(measured, tmp_path) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(guidellm_document([measured, measured])))
    done = subprocess.run(
        [guidellm_command(), "export", str(path), "--output", "kind=json,path=theirs.json",
         "--output", "kind=csv,path=theirs.csv"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "theirs.csv").stat().st_size
    for again in read_guidellm(tmp_path / "theirs.json", SLO):
        assert again.table.finished.sum() == 18
        assert again.summary.document()["outcomes"] == measured.summary.document()["outcomes"]


def test_what_is_written_has_every_metric_that_release_0_8_asks_for(measured) -> None:
    (written,) = guidellm_document([measured])["benchmarks"]
    for name in ("time_to_last_round_trip_ms", "avg_round_trip_time_ms"):
        assert written["metrics"][name]["total"]["count"] == 0


def flat(**more):
    """A request as release 0.2 had it."""
    return {"start_time": 10.0, "end_time": 12.0, "first_token_time": 10.5, "last_token_time": 12.0,
            "prompt_tokens": 7, "output_tokens": 4, **more}


def one_benchmark(tmp_path, requests):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"benchmarks": [{"requests": requests}]}))
    return path


def test_the_flat_layout_of_old(tmp_path) -> None:
    path = one_benchmark(tmp_path, {
        "successful": [flat()],
        "errored": [flat(first_token_time=None, last_token_time=None, output_tokens=None,
                         error="Client error '429 Too Many Requests' for url"),
                    flat(output_tokens=None, error="ReadTimeout"), flat(error="ConnectError"),
                    flat(error="boom")],
        "incomplete": [flat(last_token_time=None)]})
    (run,) = read_guidellm(path, SLO)
    done = run.table.take(run.table.finished)
    assert done.ttft_s.tolist() == [0.5]
    assert done.e2e_s.tolist() == [2.0]
    assert set(run.summary.document()["outcomes"]["failed"]) == {
        "refused", "timed_out", "unreachable", "failed", "broken"}
    assert run.summary.document()["outcomes"]["sent"] == 6


SENT_S = 1_795_000_000.0


def nested(**timings):
    """A request as releases 0.4 to 0.8 have it, on a Unix clock."""
    moments = {"targeted_start": -0.25, "request_start": 0.0, "first_token_iteration": 0.5,
               "last_token_iteration": 1.5, "request_end": 1.6, "resolve_end": 1.7}
    known = {name: SENT_S + at_s for name, at_s in moments.items()}
    return {"type_": "generative_request_stats", "prompt_tokens": 7, "output_tokens": 5,
            "info": {"status": "completed", "timings": {**known, **timings}}}


def report(tmp_path, *requests, strategy="constant", **metadata):
    path = tmp_path / "new.json"
    known = {"version": 2, "guidellm_version": "0.8.1", **metadata}
    path.write_text(json.dumps({"metadata": known, "benchmarks": [{
        "config": {"strategy": {"type_": strategy}},
        "requests": {"successful": requests, "errored": [], "incomplete": [], "total": None}}]}))
    return path


def test_the_layout_of_release_0_8(tmp_path) -> None:
    (run,) = read_guidellm(report(tmp_path, nested()), SLO)
    assert run.table.ttft_s.tolist() == pytest.approx([0.75])
    assert run.table.tpot_s.tolist() == pytest.approx([0.25])
    assert run.summary.document()["load"]["loop"] == "open"
    assert not [note for note in run.summary.document()["load"]["notes"] if "newer" in note]


def test_a_schedule_that_guidellm_lost_counts_from_sending(tmp_path) -> None:
    """The Poisson strategy of release 0.8.1 can write targets that count from -1."""
    path = report(tmp_path, nested(targeted_start=-0.175), nested(), strategy="poisson")
    (run,) = read_guidellm(path, SLO)
    assert sorted(run.table.ttft_s.tolist()) == pytest.approx([0.5, 0.75])
    assert any(note.startswith("1 of 2 requests have a targeted_start")
               for note in run.summary.document()["load"]["notes"])


def test_a_later_turn_is_due_when_the_turn_before_was_answered(tmp_path) -> None:
    path = report(tmp_path, nested(targeted_start=SENT_S - 9.0, predecessor_completed=SENT_S - 0.1))
    (run,) = read_guidellm(path, SLO)
    assert run.table.ttft_s.tolist() == pytest.approx([0.6])


@pytest.mark.parametrize(("layout", "field"), [(3, "metadata.version"), ("2", "metadata.version")])
def test_an_unknown_layout_is_refused(tmp_path, layout, field) -> None:
    with pytest.raises(InputError, match=f"new\\.json: {field}: .* expected 1 or 2"):
        read_guidellm(report(tmp_path, nested(), version=layout), SLO)


def test_a_newer_release_is_noted(tmp_path) -> None:
    (run,) = read_guidellm(report(tmp_path, nested(), guidellm_version="0.10.0"), SLO)
    assert run.measured.load["notes"][0].startswith("written by GuideLLM 0.10.0, which is newer")


@pytest.mark.parametrize(("change", "message"), [
    ({"request_end": SENT_S - 1}, "request_end is .* before info.timings.last_token"),
    ({"first_token_iteration": SENT_S - 1}, "first_token_iteration is 1 s before"),
    ({"last_token_iteration": SENT_S + 0.2}, "last_token_iteration is 0.3 s before"),
    ({"targeted_start": SENT_S + 1}, "request_start is 1 s before info.timings.targeted_start"),
    ({"targeted_start": SENT_S - 90_000}, "request_start is 90000 s after .* less than a day"),
    ({"request_end": SENT_S + 90_000}, "request_end is 90000.2 s after .* less than a day"),
    ({"request_start": "soon"}, "request_start: expected a moment in seconds, found 'soon'"),
    ({"request_start": True}, "request_start: expected a moment in seconds, found True"),
    ({"request_start": None, "targeted_start": None}, "no moment at which it was sent"),
])
def test_moments_that_cannot_be(tmp_path, change, message) -> None:
    path = report(tmp_path, nested(), nested(**change))
    with pytest.raises(InputError, match=rf"new\.json: .*requests\.successful\[1\].*{message}"):
        read_guidellm(path, SLO)


@pytest.mark.parametrize("change", [
    {"end_time": 9.0}, {"first_token_time": 9.0}, {"last_token_time": 10.1},
    {"first_token_time": 100_000.0, "last_token_time": 100_000.0, "end_time": 100_000.0},
    {"prompt_tokens": -1}, {"output_tokens": 1e18}, {"output_tokens": "many"},
    {"prompt_tokens": 2.5}])
def test_values_of_the_flat_layout_that_cannot_be(tmp_path, change) -> None:
    path = one_benchmark(tmp_path, {"successful": [flat(), flat(**change)]})
    with pytest.raises(InputError, match=r"old\.json: .*requests\.successful\[1\]") as told:
        read_guidellm(path, SLO)
    assert any(field in str(told.value) for field in change)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", '{"benchmarks": []}', '{"benchmarks": [1]}',
    '{"benchmarks": [{"requests": {}}]}', '{"benchmarks": [{"requests": {"successful": [{}]}}]}',
    '{"benchmarks": [{"requests": {"successful": [3]}}]}', '{"benchmarks": {"a": 1}}'])
def test_what_is_no_such_file(tmp_path, text) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        read_guidellm(path, SLO)


def test_an_absent_file(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_guidellm(tmp_path / "absent.json", SLO)
