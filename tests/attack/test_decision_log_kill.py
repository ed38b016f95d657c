"""A killed gateway loses no decision whose answer a client saw the end of."""

import asyncio

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support import misbehaving_engines as odd


@pytest.mark.parametrize("stream", [True, False])
def test_the_decision_is_in_the_file_when_the_client_has_the_answer(stream, tmp_path) -> None:
    path = tmp_path / "decisions.jsonl"

    async def run():
        log = DecisionLog(path, lambda _: None)
        async with odd.engine(odd.well) as engine, running(
                odd.fleet_of([engine]), LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                log=log) as (url, _), aiohttp.ClientSession(url) as session:
            for number in range(1, 30):
                async with session.post("/v1/completions", json={
                        "prompt": "x", "max_tokens": 5, "stream": stream}) as answer:
                    await answer.read()
                # What is in the file outlives a kill of this process from here on.
                lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
                assert len(lines) == number
                assert lines[-1]["decision_id"] == answer.headers[DECISION_HEADER]
                assert lines[-1]["outcome"]["outcome"] == "finished"
                assert lines[-1]["attempts"][-1]["outcome"] == "answered 200"
        log.close()
        assert path.read_bytes().count(b"\n") == 29

    asyncio.run(asyncio.wait_for(run(), 60))
