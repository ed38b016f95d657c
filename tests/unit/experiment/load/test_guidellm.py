"""GuideLLM's files, theirs and ours."""

import asyncio
import json
from itertools import count

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from fake_engines import DONE, event, http_engine, streaming, token, usage, whole
from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.experiment.load.bench import Target, bench
from penstock.experiment.load.guidellm import read_guidellm
from penstock.experiment.load.guidellm_write import guidellm_document
from penstock.experiment.load.plan import LoadOptions, option_plan

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
    assert run.summary["load"]["url"] == "http://127.0.0.1:8112"
    assert run.summary["load"]["loop"] == "open"
    assert run.summary["classes"]["chat"]["finished"] == 4
    assert max(run.summary["generator"]["lateness_s"].values()) < 0.1


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
        assert again.summary["outcomes"] == measured.summary["outcomes"]
        assert again.summary["overall"]["attainment"] == measured.summary["overall"]["attainment"]
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


def test_guidellm_itself_takes_what_is_written(measured, tmp_path) -> None:
    schemas = pytest.importorskip("guidellm.benchmark.schemas", reason="guidellm is not installed")
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(guidellm_document([measured])))
    report = schemas.GenerativeBenchmarksReport.load_file(path)
    assert len(report.benchmarks[0].requests.successful) == 18


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
    assert set(run.summary["outcomes"]["failed"]) == {
        "refused", "timed_out", "unreachable", "failed", "broken"}
    assert run.summary["outcomes"]["sent"] == 6


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
