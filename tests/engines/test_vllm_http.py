"""vLLM with Penstock's scheduler behind Penstock's gateway, all as processes."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from vllm_server import Server, gateway, with_tokenizer

from penstock.journal.journal import read_journal

pytestmark = pytest.mark.filterwarnings("default")

FLEET = """
name: two-engines
accelerators: [{{name: a100-80gb, count: 2}}]
models: [{{name: llama-3.1-8b}}]
service_classes:
  - {{name: interactive, priority: 1, slo: {{ttft_s: 2, itl_s: 0.2}}}}
  - {{name: batch, priority: 3, slo: {{e2e_s: 300}}}}
traffic:
  - {{mix: {{interactive: 0.5, batch: 0.5}}, rate_per_s: 1, num_requests: 10,
     lengths: {{prompt: {{fixed: 100}}, output: {{fixed: 10}}}}}}
replicas:
  - {{model: llama-3.1-8b, accelerator: a100-80gb, count: 2, endpoints: [{urls}]}}
policies: {{route: round_robin}}
"""


class Stack(NamedTuple):
    url: str
    engines: list[Server]
    journals: list[Path]


@pytest.fixture(scope="module")
def stack(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("http")
    with_tokenizer(tiny_llama)
    # Other targets than the fleet's, so that what arrives must have come with the request.
    classes = [{"name": "interactive", "priority": 1, "slo": {"ttft_s": 99, "itl_s": 0.9}},
               {"name": "batch", "priority": 3, "slo": {"e2e_s": 300}}]
    engines: list[Server] = []
    try:
        for number in range(2):
            options = {"service_classes": classes, "default_class": "batch",
                       "journal": str(folder / str(number))}
            engine = Server(tiny_llama, options, folder / f"engine-{number}.log")
            engines.append(engine)
        for engine in engines:
            engine.wait_until_ready()
        fleet = folder / "fleet.yaml"
        fleet.write_text(FLEET.format(urls=", ".join(engine.url for engine in engines)))
        with gateway(fleet) as url:
            until(lambda: ask(url, prompt="t5", max_tokens=1) is not None)
            yield Stack(url, engines, [folder / str(number) / "journal-0.jsonl"
                                       for number in range(2)])
    finally:
        for engine in engines:
            engine.kill()


def until(holds: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.1)


def words(length: int, seed: int) -> str:
    return " ".join(f"t{3 + (seed * 7919 + number * 104729) % 509}" for number in range(length))


def ask(url: str, service_class: str = "batch", **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/completions", data=json.dumps({"temperature": 0, "ignore_eos": True,
                                                  **body}).encode(),
        headers={"Content-Type": "application/json", "X-Penstock-Class": service_class})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        error.add_note(error.read().decode())
        raise
    return found


async def streamed(url: str, service_class: str, prompt: str, max_tokens: int) -> list[str]:
    import aiohttp

    texts = []
    async with aiohttp.ClientSession() as session, session.post(
            f"{url}/v1/completions", headers={"X-Penstock-Class": service_class},
            json={"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True,
                  "ignore_eos": True}) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                texts += [choice["text"] for choice in choices]
    return texts


def added(journal: Path) -> list[dict[str, Any]]:
    return [record["request"] for record in read_journal(journal) if record["kind"] == "add"]


def test_a_streamed_answer_is_the_whole_answer_in_pieces(stack: Stack) -> None:
    whole = ask(stack.url, prompt=words(40, 1), max_tokens=400)
    assert whole["usage"]["completion_tokens"] == 400
    pieces = asyncio.run(streamed(stack.url, "interactive", words(40, 1), 400))
    # The engine joins tokens that wait for a reader: on a busy host, a few tokens may be one piece.
    assert len(pieces) > 1
    assert "".join(pieces) == whole["choices"][0]["text"]


def test_objectives_arrive_at_the_scheduler(stack: Stack) -> None:
    for _ in range(2):  # one for each engine
        ask(stack.url, "interactive", prompt=words(21, 2), max_tokens=2)
    for journal in stack.journals:
        found = [one for one in added(journal) if one["prompt_tokens"] == 21]
        assert [(one["service_class"]["name"], one["service_class"]["slo"]["ttft_s"],
                 one["service_class"]["slo"]["itl_s"], one["max_tokens"])
                for one in found] == [("interactive@0.2", 2.0, 0.2, 2)]


def test_a_client_that_leaves_frees_the_engine(stack: Stack) -> None:
    async def leave() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.post(
                f"{stack.url}/v1/completions",
                json={"prompt": words(30, 3), "max_tokens": 1900, "stream": True,
                      "ignore_eos": True}) as answer:
            for _ in range(10):  # at most a few tokens: an event and an empty line each
                await answer.content.readline()

    def aborts() -> int:
        whole = [journal.read_text().rpartition("\n")[0] for journal in stack.journals]
        return sum('"kind":"abort"' in line.replace(" ", "") for text in whole
                   for line in text.splitlines())

    asyncio.run(leave())
    until(lambda: aborts() > 0)
    # Metrics are told a step after what they are of, so they may still be of what was before.
    until(lambda: all(engine.metric("vllm:num_requests_running") == 0
                      for engine in stack.engines))
    assert aborts() == 1
    # It had produced a part of what was asked, and nothing of it ends up waiting.
    assert all(engine.metric("vllm:num_requests_waiting") == 0 for engine in stack.engines)


def test_mixed_classes_under_load_get_the_answers_of_a_quiet_engine(stack: Stack) -> None:
    asked = [(words(length, seed), "interactive" if seed % 2 else "batch")
             for seed, length in enumerate((5, 300, 40, 900, 12, 200, 60, 700))]
    quiet = [ask(stack.url, prompt=prompt, max_tokens=8)["choices"][0]["text"]
             for prompt, _ in asked]

    async def all_at_once() -> list[list[str]]:
        return await asyncio.gather(*[streamed(stack.url, name, prompt, 8)
                                      for prompt, name in asked])

    assert ["".join(pieces) for pieces in asyncio.run(all_at_once())] == quiet


def test_journals_of_a_running_engine_replay(stack: Stack) -> None:
    for journal in stack.journals:
        copy = journal.with_name("so-far.jsonl")
        text = journal.read_bytes()
        copy.write_bytes(text[:text.rindex(b"\n") + 1])
        outcome = subprocess.run([sys.executable, "-m", "penstock", "lab", "replay", "--json",
                                  str(copy)],
                                 capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome
        report = json.loads(outcome.stdout)
        assert report["same"]
        assert report["num_plans"] > 20


def test_an_engine_killed_under_load_loses_no_request(stack: Stack) -> None:
    async def load() -> list[dict[str, Any]]:
        answers = [asyncio.to_thread(ask, stack.url, prompt=words(100, seed), max_tokens=200)
                   for seed in range(24)]
        waiting = asyncio.gather(*answers)
        while stack.engines[0].metric("vllm:num_requests_running") < 2:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(stack.engines[0].kill)
        return await waiting

    answers = asyncio.run(load())
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [200] * 24
    assert len({answer["choices"][0]["text"] for answer in answers}) > 12
    again = ask(stack.url, prompt=words(100, 0), max_tokens=200)
    assert again["choices"][0]["text"] == answers[0]["choices"][0]["text"]
