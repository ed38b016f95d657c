import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.client.client import ClientTimeouts
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.experiment.collect.broadcast import CollectOptions, check_metric
from penstock.experiment.collect.log import open_log
from penstock.experiment.collect.prompts import Prompt, read_prompts
from penstock.experiment.collect.rows import read_collected, read_prompt_rows, write_rows
from penstock.experiment.collect.run import JudgeAt, Sources, collect
from penstock.fleet.load import parse_fleet
from support.fake_http_engines import http_engine

FLEET = """\
name: two
accelerators: [{name: a100-80gb, count: 8}]
models: [{name: llama-3-8b}, {name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic:
  - {model: llama-3-8b, lengths: {prompt: {fixed: 400}, output: {fixed: 9}}, num_requests: 9,
     rate_per_s: 5}
  - {model: llama-3.1-8b, lengths: {prompt: {fixed: 400}, output: {fixed: 4}}, num_requests: 9,
     rate_per_s: 5}
replicas:
  - {model: llama-3-8b, accelerator: a100-80gb, count: 2%s}
  - {model: llama-3.1-8b, accelerator: a100-80gb, count: 1%s}
"""
PROMPTS = tuple(Prompt(number, f"prompt number {number}", f"the answer {number}")
                for number in range(12))


GRADED = CollectOptions(max_tokens=50, metric="f1")


def fleet_at(urls: list[str]) -> str:
    return FLEET % (f", endpoints: [{urls[0]}, {urls[1]}]", f", endpoints: [{urls[2]}]")


@asynccontextmanager
async def engines(speed: float = 200.0):
    async with emulated_cluster(parse_fleet(FLEET % ("", "")),
                                EmulatorOptions(port=0, speed=speed)) as cluster:
        yield [replica.url for replica in cluster.replicas]


def collected(folder: Path, options: CollectOptions = GRADED,
              judge: JudgeAt | None = None, prompts: tuple[Prompt, ...] = PROMPTS,
              ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async def main() -> list[dict[str, Any]]:
        async with engines() as urls:
            sources = Sources(parse_fleet(fleet_at(urls)), prompts, "digest", judge=judge)
            return await asyncio.to_thread(collect, sources, options, folder)

    counts = asyncio.run(main())
    return counts, pq.read_table(folder / "rows.parquet").to_pylist()


def test_every_prompt_goes_to_one_replica_of_each_model(tmp_path: Path) -> None:
    counts, rows = collected(tmp_path / "rows")
    assert Counter((row["prompt_id"], row["model"]) for row in rows) == {
        (prompt.prompt_id, model): 1 for prompt in PROMPTS
        for model in ("llama-3-8b", "llama-3.1-8b")}
    assert {row["replica"] for row in rows if row["model"] == "llama-3-8b"} \
        == {"replica-0", "replica-1"}
    assert {row["model"]: row["output_tokens"] for row in rows} \
        == {"llama-3-8b": 9, "llama-3.1-8b": 4}
    for row in rows:
        assert row["outcome"] == "finished"
        assert 0 < row["ttft_s"] <= row["e2e_s"]
        assert row["e2e_s"] == pytest.approx(
            row["ttft_s"] + (row["output_tokens"] - 1) * row["tpot_s"])
        assert 0.0 <= row["mean_kv_use"] <= 1.0
        assert row["quality_source"] == "f1"
        assert row["prompt_tokens"] > 0
    assert [one["finished"] for one in counts] == [12, 12]


def test_the_prediction_is_of_answers_before_and_not_of_this_one(tmp_path: Path) -> None:
    _, rows = collected(tmp_path / "rows", CollectOptions(max_tokens=50, concurrency=1))
    predicted = [row["predicted_output_tokens"] for row in rows if row["model"] == "llama-3-8b"]
    # The prior is max_tokens; answers of 9 tokens draw it down, one after the other.
    assert predicted[0] == 50.0
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[-1] < predicted[0]


def test_what_was_collected_can_be_trained_on(tmp_path: Path) -> None:
    collected(tmp_path / "rows")
    rows = read_prompt_rows(tmp_path / "rows")
    assert rows.models == ("llama-3-8b", "llama-3.1-8b")
    assert len(rows) == 12
    assert rows.output_tokens.tolist() == [[9.0, 4.0]] * 12
    latency = read_collected(tmp_path / "rows" / "rows.parquet", "llama-3-8b")
    assert len(latency) == 12
    assert "output_tokens" not in latency.columns
    assert {"ttft_s", "num_running", "mean_kv_use"} <= set(latency.columns)
    with pytest.raises(InputError, match="rows of 2 models; name one with --model"):
        read_collected(tmp_path / "rows")
    with pytest.raises(InputError, match="no rows of model 'llama-3-8'; did you mean"):
        read_collected(tmp_path / "rows", "llama-3-8")


@pytest.mark.parametrize(("reply", "quality", "source"), [
    ("Score: 7", 0.7, "judge wise"),
    ("cannot say", None, "judge failed: 3 attempts; the last: no score in the reply 'cannot say'"),
])
def test_a_judge_grades_what_no_metric_does(tmp_path: Path, reply: str, quality: float | None,
                                            source: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        return web.json_response({"choices": [{"message": {"content": reply},
                                               "finish_reason": "stop"}]})

    async def main() -> list[dict[str, Any]]:
        async with engines() as urls, http_engine(answer) as judge_url:
            sources = Sources(parse_fleet(fleet_at(urls)), PROMPTS[:2], "digest",
                              judge=JudgeAt(judge_url, "wise", "secret"))
            return await asyncio.to_thread(collect, sources, CollectOptions(max_tokens=50),
                                           tmp_path / "rows")

    counts = asyncio.run(main())
    rows = pq.read_table(tmp_path / "rows" / "rows.parquet").to_pylist()
    assert [row["quality"] for row in rows] == [quality] * 4
    assert {row["quality_source"] for row in rows} == {source}
    assert [one["judge_failures"] for one in counts] == [0 if quality else 2] * 2
    for file in (tmp_path / "rows").iterdir():
        assert b"secret" not in file.read_bytes()


def test_failed_answers_are_rows_without_figures(tmp_path: Path) -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "out of memory"}}, status=500)

    async def main() -> list[dict[str, Any]]:
        async with http_engine(broken) as url:
            fleet = parse_fleet(fleet_at([url, url, url]))
            return await asyncio.to_thread(
                collect, Sources(fleet, PROMPTS[:2], "digest", ["llama-3.1-8b"]),
                CollectOptions(), tmp_path / "rows")

    counts = asyncio.run(main())
    rows = pq.read_table(tmp_path / "rows" / "rows.parquet").to_pylist()
    assert [(row["outcome"], row["output_tokens"], row["quality"]) for row in rows] \
        == [("failed", None, None)] * 2
    assert "out of memory" in rows[0]["reason"]
    assert (counts[0]["finished"], counts[0]["failed"]) == (0, 2)


def test_engines_that_do_not_answer_are_said(tmp_path: Path) -> None:
    fleet = parse_fleet(fleet_at(["http://127.0.0.1:9"] * 3))
    with pytest.raises(InputError, match=r":9: no engine of llama-3-8b answers"):
        collect(Sources(fleet, PROMPTS, "d", patience=ClientTimeouts(connect_s=1.0)),
                CollectOptions(),
                tmp_path / "rows")
    with pytest.raises(InputError, match="none has endpoints"):
        collect(Sources(parse_fleet(FLEET % ("", "")), PROMPTS, "d"), CollectOptions(),
                tmp_path / "other")
    with pytest.raises(InputError, match="model 'llama-3' has no endpoint"):
        collect(Sources(fleet, PROMPTS, "d", ["llama-3"]), CollectOptions(), tmp_path / "other")


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the middle: no row is lost, none is there twice."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"prompt number {number}\n" for number in range(60)))
    out, fleet = tmp_path / "rows", tmp_path / "fleet.yaml"
    log = out / "collected.jsonl"
    command = [sys.executable, "-m", "penstock", "collect", str(fleet), "--prompts", str(prompts),
               "--out", str(out), "--max-tokens", "50", "--concurrency", "4", "--json"]

    def kill_when_under_way() -> bytes:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not log.exists() or log.read_bytes().count(b"\n") < 10:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return log.read_bytes()

    async def main() -> tuple[bytes, "subprocess.CompletedProcess[bytes]"]:
        async with engines(speed=10.0) as urls:
            fleet.write_text(fleet_at(urls))
            seen = await asyncio.to_thread(kill_when_under_way)
            with log.open("ab") as file:
                file.write(b'{"prompt_id": 59, "model": "lla')  # cut off by the kill
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True,
                                           check=False)
            return seen, done

    seen, done = asyncio.run(main())
    assert done.returncode == 0, done.stderr
    before = [json.loads(line) for line in seen[:seen.rfind(b"\n") + 1].splitlines()]
    rows = pq.read_table(out / "rows.parquet").to_pylist()
    assert Counter((row["prompt_id"], row["model"]) for row in rows) == {
        (number, model): 1 for number in range(60) for model in ("llama-3-8b", "llama-3.1-8b")}
    kept = {(row["prompt_id"], row["model"]): row["asked_at_s"] for row in rows}
    assert len(before) >= 10
    assert all(kept[row["prompt_id"], row["model"]] == row["asked_at_s"] for row in before)


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    head = {"prompts": "digest", "models": ["one"], "max_tokens": 50}
    log = open_log(tmp_path / "rows", head)
    log.add({"prompt_id": 0, "model": "one"})
    log.close()
    again = open_log(tmp_path / "rows", head)
    assert list(again.rows) == [(0, "one")]
    with pytest.raises(ValueError, match="there already"):
        again.add({"prompt_id": 0, "model": "one"})
    again.close()
    with pytest.raises(InputError, match="holds a run with max_tokens '50'; this one has '60'"):
        open_log(tmp_path / "rows", {**head, "max_tokens": 60})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds files of something else"):
        open_log(tmp_path / "full", head)
    (tmp_path / "rows" / "collected.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        open_log(tmp_path / "rows", head)


@pytest.mark.parametrize(("name", "text"), [
    ("p.txt", "one\n\ntwo\n"), ("p.csv", "prompt,reference\none,1\ntwo,\n"),
    ("p.jsonl", '{"prompt": "one", "reference": 1}\n\n{"prompt": "two"}\n')])
def test_prompts_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    prompts, digest = read_prompts(tmp_path / name)
    assert [prompt.text for prompt in prompts] == ["one", "two"]
    assert [prompt.reference for prompt in prompts] == [None if name == "p.txt" else "1", None]
    assert len(digest) == 64


@pytest.mark.parametrize(("name", "content", "message"), [
    ("p.txt", b"\n \n", "no prompts"),
    ("p.md", b"one", r"expected a name that ends in .jsonl, .csv, .txt"),
    ("p.txt", b"\xff\xfe", r"is not UTF-8 text \(byte 0\)"),
    ("p.jsonl", b'{"prompt": "a"}\n{"prompt": ', "line 2: is not JSON"),
    ("p.jsonl", b"[1]\n", "line 1: a list; expected an object with prompt"),
    ("p.jsonl", b'{"prompt": 3}\n', "line 1: prompt is a number; expected a text"),
    ("p.jsonl", b'{"prompt": "a", "reference": []}\n', "line 1: reference is a list"),
    ("p.csv", b"text\na\n", "no column 'prompt'"),
])
def test_bad_prompt_files_are_refused(tmp_path: Path, name: str, content: bytes,
                                      message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_metrics_are_checked_before_anything_is_asked() -> None:
    check_metric(None, PROMPTS, "p.txt")
    with pytest.raises(InputError, match=r"--metric 'rouge' is unknown; did you mean 'rouge-l'"):
        check_metric("rouge", PROMPTS, "p.txt")
    with pytest.raises(InputError, match=r"p.txt: no prompt has a reference"):
        check_metric("f1", [Prompt(0, "a")], "p.txt")


def test_unfit_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    row = {"prompt": "a", "model": "m", "output_tokens": 3, "quality": 0.5, "prompt_id": 0}
    for bad, message in (({"quality": 1.5}, "quality 1.5; expected 0 to 1"),
                         ({"output_tokens": -1}, "output_tokens -1; expected 0 or more"),
                         ({"quality": float("inf")}, "holds an infinite number")):
        write_rows([row | bad], path)
        with pytest.raises(InputError, match=message):
            read_prompt_rows(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="is not Parquet"):
        read_prompt_rows(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompt_rows(tmp_path / "none.parquet")


def test_a_prompt_that_was_asked_twice_counts_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows([{"prompt": "a", "prompt_id": 0, "model": model, "output_tokens": tokens}
                for model, tokens in (("m", 3), ("n", 4), ("m", 5))], path)
    rows = read_prompt_rows(path)
    assert rows.prompts == ("a", "a")
    assert rows.output_tokens[0].tolist() == [3.0, 4.0]
    assert rows.output_tokens[1, 0] == 5.0
