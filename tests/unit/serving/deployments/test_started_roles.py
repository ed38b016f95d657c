"""Engines with roles that Penstock starts and the gateway pairs. The engines are played."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.deployments.commands import checked_options
from penstock.serving.deployments.replicas import options_of
from penstock.serving.deployments.started import started_replicas
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.pairing import PREFILLED, check_roles
from penstock.serving.gateway.running import running
from support import vllm_with_connector

FLEET = """\
name: apart
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 20}}]
traffic: [{lengths: {prompt: {fixed: 40}, output: {fixed: 4}}, rate_per_s: 5, num_requests: 6}]
replicas:
  - {role: prefill, count: 2, engine: vllm, served_as: /weights}
  - {role: decode, count: 2, engine: vllm, served_as: /weights}
disaggregation: {transfer: {gb_per_s: 50}, connector: nixl}
"""
ASK = {"model": "llama-3-8b", "prompt": "Tell me of rivers.", "max_tokens": 4}


@pytest.fixture
def played(tmp_path, monkeypatch):
    """A program ``vllm`` in the search path, and a folder for the engines."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n" + Path(vllm_with_connector.__file__).read_text())
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "engines"


def test_started_engines_of_both_roles_are_paired(played) -> None:
    async def one(session):
        async with session.post("/v1/completions", json=ASK) as answer:
            assert answer.status == 200
            text = (await answer.json())["choices"][0]["text"]
            decision = answer.headers["X-Penstock-Decision"]
        async with session.get(f"/v1/penstock/decisions/{decision}") as found:
            attempts = (await found.json())["attempts"]
        return text, [(one["replica"], one["outcome"]) for one in attempts]

    async def work():
        fleet = parse_fleet(FLEET)
        check_roles(fleet)
        async with started_replicas(fleet, played, print) as started, running(
                started.fleet(fleet), LeastLoaded(), "127.0.0.1", 0, limits=Limits()) as (
                url, engines), aiohttp.ClientSession(url) as session:
            roles = [engine.facts.role for engine in engines]
            pids = [started.of_group(0)[1].deployment(number).instance.pid for number in range(4)]
            return roles, pids, await asyncio.gather(*(one(session) for _ in range(8)))

    roles, pids, answers = asyncio.run(work())
    assert roles == ["prefill", "prefill", "decode", "decode"]
    used = set()
    for text, attempts in answers:
        (first, prefilled), (second, answered) = attempts
        assert (prefilled, answered) == (PREFILLED, "answered 200")
        assert second in ("replica 2", "replica 3")
        assert text == f"computed by {pids[int(first.removeprefix('replica '))]}"
        used.add(first)
    assert used == {"replica 0", "replica 1"}


def test_the_role_is_an_option_of_the_engine() -> None:
    fleet = parse_fleet(FLEET)
    options = options_of(fleet, fleet.replicas[1])
    assert options["role"] == "decode"
    assert checked_options("vllm", options)["role"] == "decode"
    with pytest.raises(InputError, match="role: found 'both'; expected prefill or decode"):
        checked_options("vllm", {**options, "role": "both"})


@pytest.mark.parametrize(("old", "new", "wanted"), [
    ("connector: nixl", "connector: mooncake", "connector: mooncake, but penstock serve starts"),
    ("engine: vllm", "engine: emulated", r"replicas\[0\].role: prefill, but penstock serve")])
def test_what_cannot_be_started_with_a_role(old, new, wanted) -> None:
    with pytest.raises(InputError, match=wanted):
        check_roles(parse_fleet(FLEET.replace(old, new)))
