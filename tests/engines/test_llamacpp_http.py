"""``penstock engine`` as a user runs it: a process, OpenAI's client, metrics, a journal."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

openai = pytest.importorskip("openai", reason="the official client is not installed")


class Running(NamedTuple):
    url: str
    journal: Path
    process: "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def engine(tiny_gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("engine")
    with subprocess.Popen(
            [sys.executable, "-m", "penstock", "lab", "engine", str(tiny_gguf_file), "--port", "0",
             "--kv-tokens", "4096", "--threads", "1", "--kv-precision", "f32",
             "--max-step-tokens", "64", "--journal", str(folder / "journal")],
            stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            word, url, name = process.stdout.readline().split()
            assert (word, name) == ("engine", "tiny")
            yield Running(url, folder / "journal" / "journal-0.jsonl", process)
        finally:
            process.kill()


def metric(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


async def client_asks(url: str, seed: int, **changes: Any) -> tuple[str, int]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        stream = await client.completions.create(
            model="tiny", prompt=[3 + (seed * 31 + place * 7) % 250 for place in range(60)],
            max_tokens=20, temperature=0, stream=True, extra_body={"ignore_eos": True}, **changes)
        texts = [chunk.choices[0].text async for chunk in stream if chunk.choices]
    return "".join(texts), len(texts)


def test_streams_side_by_side_are_the_answers_of_a_quiet_engine(engine: Running) -> None:
    async def work() -> None:
        quiet = [await client_asks(engine.url, seed) for seed in range(6)]
        loud = await asyncio.gather(*[client_asks(engine.url, seed) for seed in range(6)])
        assert loud == quiet
        assert {num for _, num in loud} == {20}
        assert len({text for text, _ in loud}) == 6

    asyncio.run(work())


def test_a_chat_answers_and_counts_its_tokens(engine: Running) -> None:
    client = openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0)
    with client:
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "the water falls"}],
            max_tokens=7, temperature=0, extra_body={"ignore_eos": True})
        again = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "the water falls"}],
            max_tokens=7, temperature=0, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == again.choices[0].message.content


def test_a_client_that_leaves_frees_its_place(engine: Running) -> None:
    async def leave() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.post(
                f"{engine.url}/v1/completions",
                json={"prompt": "the", "max_tokens": 3900, "stream": True,
                      "ignore_eos": True}) as answer:
            await answer.content.readline()
            assert metric(engine.url, "vllm:num_requests_running") == 1

    asyncio.run(leave())
    deadline_s = time.monotonic() + 60
    while metric(engine.url, "vllm:num_requests_running"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert metric(engine.url, "vllm:generation_tokens_total") < 3900


@pytest.mark.parametrize(("body", "said"), [
    ({"prompt": [9999]}, "vocabulary ends at"), ({"prompt": "a", "temperature": 9}, "temperature"),
    ({"prompt": "a", "vllm_xargs": {"service_class": "x"}}, "no service class")])
def test_mistakes_are_told(engine: Running, body: dict[str, Any], said: str) -> None:
    request = urllib.request.Request(f"{engine.url}/v1/completions",
                                     data=json.dumps(body).encode())
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value as answer:
        assert answer.code == 400
        assert said in json.load(answer)["error"]["message"]


def test_the_journal_replays_once_the_engine_has_stopped(engine: Running) -> None:
    engine.process.terminate()
    assert engine.process.wait(30) == 0
    outcome = subprocess.run([sys.executable, "-m", "penstock", "lab", "replay", "--json",
                              str(engine.journal)], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome
    report = json.loads(outcome.stdout)
    assert report["same"]
    assert report["num_plans"] > 100
