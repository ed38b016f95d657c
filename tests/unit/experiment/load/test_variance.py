"""Variance of servers whose answers are known."""

import asyncio
from itertools import count
from zlib import crc32

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.experiment.load.bench import Target
from penstock.experiment.load.variance import VarianceOptions, measure_variance, schedule
from penstock.report.html.variance_page import write_variance_page
from penstock.report.model.variance import variance_blocks
from support.fake_http_engines import DONE, http_engine, streaming, token, usage, whole

OPTIONS = VarianceOptions(6, 5, 2, prompt_tokens=30, max_tokens=50, seed=1)


def measured(*lengths, metrics=None, options=OPTIONS):
    """Of servers whose answers to a prompt have the length that a function of it says."""
    def answering(length):
        async def answer(request):
            num = length((await request.json())["prompt"])
            parts = [token("x")] * (num - 1) + [token("x", "stop", usage=usage(30, num)), DONE]
            return await streaming(*parts)(request)

        return answer

    async def run():
        async with http_engine(answering(lengths[0]), metrics=metrics) as one, \
                http_engine(answering(lengths[-1]), metrics=metrics) as other:
            urls = [one, other][:len(lengths)]
            return await measure_variance([Target(url) for url in urls], options)

    return asyncio.run(run())


def of_prompt(prompt: str) -> int:
    return 5 + crc32(prompt.encode()) % 40


def lengths_of(document, experiment):
    return document["experiments"][experiment]["measures"]["output_tokens"]


def test_the_schedule_takes_replicas_in_turn_and_shuffles_alike_for_all() -> None:
    sent = schedule(2, OPTIONS)
    assert len(sent) == 2 * (6 + 5 + 2 * 5)
    assert [one.replica for one in sent] == [0, 1] * 21
    assert {one.request for one in sent if one.experiment == "repeated"} == {0}
    rounds = [[one.request for one in sent if one.experiment == "shuffled" and one.round == again
               and one.replica == replica] for again in range(2) for replica in range(2)]
    assert rounds[0] == rounds[1]
    assert rounds[2] == rounds[3] != rounds[0]
    assert sorted(rounds[0]) == sorted(rounds[2]) == [6, 7, 8, 9, 10]
    assert schedule(2, OPTIONS) == sent


def test_answers_that_depend_on_the_prompt_vary_between_requests_only() -> None:
    found, document = measured(of_prompt, of_prompt)
    assert len(found) == 42
    assert all(one.outcome == "finished" for one in found)
    repeated = lengths_of(document, "repeated")
    assert repeated["sd"] == 0.0
    assert repeated["between"]["replica"] is None
    same = lengths_of(document, "same_length")
    assert same["sd"] > 0
    assert same["between"]["request"]["share"] == 1.0
    assert same["between"]["replica"]["share"] == 0.0
    shuffled = lengths_of(document, "shuffled")["between"]
    assert shuffled["request"]["share"] == 1.0
    assert shuffled["round"]["share"] == 0.0


def test_replicas_that_differ_are_found_out() -> None:
    numbers = count()
    _, document = measured(lambda _: 10 + next(numbers) % 3, lambda _: 30 + next(numbers) % 3)
    repeated = lengths_of(document, "repeated")
    assert repeated["between"]["replica"]["share"] > 0.98
    assert repeated["between"]["replica"]["p_value"] < 1e-6
    assert repeated["by_replica"]["0"]["mean"] < 13 < 30 <= repeated["by_replica"]["1"]["mean"]


def test_memory_is_that_of_the_metrics_where_there_are_any() -> None:
    found, document = measured(of_prompt, metrics="vllm:kv_cache_usage_perc 0.25\n")
    assert {one.kv_used_share for one in found if one.kv_used_share == one.kv_used_share} == {0.25}
    _, without = measured(of_prompt)
    assert document["experiments"]["repeated"]["measures"]["kv_used_share"]["mean"] == 0.25
    assert without["experiments"]["repeated"]["measures"]["kv_used_share"]["mean"] is None


def test_failures_are_counted_and_have_no_measures() -> None:
    numbers = count()

    async def answer(request):
        if next(numbers) % 2:
            return await whole({"error": {"message": "busy"}}, 429)(request)
        return await streaming(token("a", "stop"), DONE)(request)

    async def run():
        async with http_engine(answer) as url:
            return await measure_variance([Target(url)], OPTIONS)

    found, document = asyncio.run(run())
    failed = [one for one in found if one.outcome != "finished"]
    assert 0 < len(failed) < len(found)
    assert all(one.row()["e2e_s"] is None for one in failed)
    told = document["experiments"].values()
    assert sum(one["sent"] - one["finished"] for one in told) == len(failed)


def test_tables_and_page(tmp_path) -> None:
    found, document = measured(of_prompt, lambda _: 3)
    assert len(list(variance_blocks(document))) == 4
    write_variance_page(tmp_path / "page.html", document, [one.row() for one in found])
    page = (tmp_path / "page.html").read_text()
    assert "Different requests, same length" in page
    assert document["urls"][0] in page
    assert orjson.loads(orjson.dumps(document)) == document
