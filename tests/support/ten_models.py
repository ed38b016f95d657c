"""Ten models on a device with memory for two, behind ``penstock serve``: what a user must see."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

import aiohttp

from support.penstock_process import process

NUM_MODELS = 10
NAMES = [f"tiny-{number}" for number in range(NUM_MODELS)]
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 512,
          "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 4096}
PENSTOCK = [sys.executable, "-m", "penstock"]


def write_fleet(folder, command):
    """The fleet file; ``command`` starts an engine for ``{model}`` on ``{port}``."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    fleet = {
        "accelerators": [{"name": "h100-80gb", "count": 1}],
        "models": [{"name": name, "config": "config.json"} for name in NAMES],
        "service_classes": [{"name": "patient", "slo": {"e2e_s": 600}},
                            {"name": "hurried", "slo": {"e2e_s": 0.001}}],
        "traffic": [{"model": "auto", "mix": {"patient": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 9}, "output": {"fixed": 9}}}],
        "multiplexing": [{"name": "gpu", "memory_gib": 25, "models": [
            {"model": name, "size_gib": 10, "load_s": 2, "max_batch": 8,
             "batch": {"fixed_s": 0.2, "per_request_s": 0.01},
             "engine": {"kind": "process", "command": command}} for name in NAMES]}]}
    path = folder / "ten.yaml"
    path.write_text(json.dumps(fleet))
    return path


def serve_ten(repository, folder, command):
    """Everything that the ten models must stand, against a gateway as a process."""
    write_fleet(folder, command)
    engines = folder / "ten.engines"
    try:
        with process(repository, folder, "serve", "ten.yaml", "--port", "0") as front:
            word, url = front.stdout.readline().split()
            assert word == "gateway"
            asyncio.run(_clients(url, engines))
            front.send_signal(signal.SIGTERM)
            _, err = front.communicate(timeout=60)
            assert front.returncode == 0
            assert "bug" not in err
        assert not list(engines.glob("*.json")), "engines go with their gateway"
    finally:  # a gateway that is killed leaves them to the next one
        for file in engines.glob("*.json"):
            with suppress(ProcessLookupError):
                os.killpg(json.loads(file.read_text())["pid"], signal.SIGKILL)


async def _clients(url, folder):
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/v1/models") as answer:
            listed = [one["id"] for one in (await answer.json())["data"]]
        assert listed == [*NAMES, "auto"]
        # All ten at once, some twice: everybody is answered, though two at a time are loaded.
        asked = [*NAMES, *NAMES[:4]]
        answers = await asyncio.gather(*(ask(session, name) for name in asked))
        assert [status for status, _ in answers] == [200] * len(asked)
        assert [document["model"] for _, document in answers] == asked
        pool = await status_of(session)
        assert len(pool["devices"][0]["resident"]) == 2
        assert sum(one["num_started"] for one in pool["models"]) == len(asked)
        # There and back: a model that had to go comes again, and another goes.
        gone = next(name for name in NAMES if name not in pool["devices"][0]["resident"])
        assert (await ask(session, gone))[0] == 200
        assert await loads(session, gone) >= 2
        # Who cannot be answered in time is told so at once, with when to come back.
        resident = (await status_of(session))["devices"][0]["resident"]
        absent = next(name for name in NAMES if name not in resident)
        status, document = await ask(session, absent, headers={"X-Penstock-Class": "hurried"})
        assert status == 503
        assert document["error"]["code"] == "shed"
        assert "too late" in document["error"]["message"]
        await _killed_under_way(session, folder, gone)


async def _killed_under_way(session, folder, name):
    """An engine dies in the middle of an answer: another one is begun, and answers."""
    before = await loads(session, name)
    asking = asyncio.ensure_future(ask(session, name, max_tokens=1500, ignore_eos=True))
    while not (await status_of(session))["devices"][0]["resident"].get(name):
        assert not asking.done(), asking.result()
        await asyncio.sleep(0.005)
    pid = json.loads((folder / f"gpu-0-{name}.json").read_text())["pid"]
    os.killpg(pid, signal.SIGKILL)
    status, document = await asking
    assert status == 200, document
    assert document["usage"]["completion_tokens"] == 1500
    assert await loads(session, name) == before + 1
    async with session.get("/metrics") as answer:
        lost = [line for line in (await answer.text()).splitlines()
                if line.startswith("penstock:model_lost_total{")]
    assert len(lost) == 1
    assert name in lost[0]


async def ask(session, name, max_tokens=5, headers=None, **more):
    async with session.post("/v1/completions", headers=headers, json={
            "model": name, "prompt": "water", "max_tokens": max_tokens, **more}) as answer:
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status, await answer.json()


async def status_of(session):
    async with session.get("/v1/penstock/status") as answer:
        pool, = (await answer.json())["pools"]
        return pool


async def loads(session, name):
    async with session.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines
               if line.startswith("penstock:model_loads_total{") and f'"{name}"' in line
               and 'outcome="loaded"' in line)
