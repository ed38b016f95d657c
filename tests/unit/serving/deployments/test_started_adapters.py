"""vLLM and SGLang that Penstock starts with room for adapters, which the gateway loads there. The
engines are played."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.fleet.load import parse_fleet
from penstock.policy.place.values import Footprint, Placement, Stage
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.deployments.commands import checked_options, command_of, lora_of
from penstock.serving.deployments.replicas import options_of
from penstock.serving.deployments.startable import with_adapters
from penstock.serving.deployments.started import started_replicas
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support import server_with_adapters
from support.simulated_deployments import deployment, site_in

FLEET = """\
name: adapted
accelerators: [{name: a100-80gb, count: 1}]
models:
  - name: llama-3-8b
    adapters: [{name: sql, path: hub/sql}, {name: poem, path: hub/poem, served_as: poems},
               {name: gone, path: hub/gone}]
service_classes: [{name: chat, slo: {ttft_s: 20}}]
traffic: [{lengths: {prompt: {fixed: 40}, output: {fixed: 4}}, rate_per_s: 5, num_requests: 6}]
replicas:
  - {engine: ENGINE, served_as: /weights, lora: {max_loras: 1, max_cpu_loras: 2, max_rank: 12}}
"""
PROGRAMS = {"vllm": "vllm", "sglang": "python3"}
ENGINES = pytest.mark.parametrize("engine", PROGRAMS)


def fleet_of(engine, old="", new=""):
    return parse_fleet(FLEET.replace("ENGINE", engine).replace(old, new))


@pytest.fixture
def played(tmp_path, monkeypatch):
    """The engines' programs in the search path, two adapters, and a folder for the engines."""
    for name in PROGRAMS.values():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n"
                           + Path(server_with_adapters.__file__).read_text())
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)  # which is not the folder of the engines
    for name in ("sql", "poem"):
        (tmp_path / "hub" / name).mkdir(parents=True)
    return tmp_path / "engines"


def placed(engine, options, used_bytes):
    """A deployment on one accelerator, of whose memory it gets that much."""
    footprint = Footprint("llama-2-7b", 1, 1, 1, 0, fixed_bytes=used_bytes)
    return deployment(engine=engine, options=options,
                      configuration=Configuration(Parallelism(), "bf16", "bf16"),
                      placement=Placement(footprint, (Stage(1, (0,)),)))


@ENGINES
def test_the_gateway_loads_adapters_on_started_engines(played, engine) -> None:
    async def ask(session, model, **more):
        async with session.post("/v1/completions", json={
                "model": model, "prompt": "hello", "max_tokens": 2, **more}) as answer:
            document = await answer.json()
            return document["choices"][0]["text"] if answer.status == 200 else document["error"]

    async def work():
        fleet = fleet_of(engine)
        async with started_replicas(fleet, played, print) as started, running(
                started.fleet(fleet), LeastLoaded(), "127.0.0.1", 0, limits=Limits()) as (
                url, _), aiohttp.ClientSession(url) as session:
            assert await ask(session, "sql") == "by sql"
            assert await ask(session, "poem") == "by poems"
            assert await ask(session, "llama-3-8b") == "by replica-0"
            if engine == "sglang":  # a field by which a client would get at any adapter
                assert await ask(session, "llama-3-8b", lora_path="sql") == "by replica-0"
            refused = await ask(session, "gone")
            assert refused["code"] == "adapter_unavailable"
            assert "could not load gone (status 400)" in refused["message"]

    asyncio.run(work())


@pytest.mark.parametrize(("engine", "words", "environment"), [
    ("vllm", "--enable-lora --max-loras 1 --max-cpu-loras 2 --max-lora-rank 16",
     {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}),
    ("sglang", "--enable-lora --max-loras-per-batch 1 --max-loaded-loras 2 --max-lora-rank 12 "
               "--lora-target-modules all --enable-metrics", {})])
def test_engines_start_with_the_words_of_penstock_commands(tmp_path, engine, words,
                                                           environment) -> None:
    fleet = fleet_of(engine)
    options = checked_options(engine, options_of(fleet, fleet.replicas[0]))
    found = command_of(site_in(tmp_path), placed(engine, options, 1 << 30), 4711)
    assert " ".join(found.argv).endswith(words)
    assert environment.items() <= found.environment.items()
    room = lora_of(options)
    assert room is not None
    assert (room.max_loras, room.most_loaded, room.max_rank) == (1, 2, 12)


def test_a_started_sglang_bounds_the_wait_for_adapters_where_the_file_does(tmp_path) -> None:
    fleet = parse_fleet(FLEET.replace("ENGINE", "sglang") + (
        "engine: {name: sglang}\npolicies: {schedule: {name: stock, adapter_wait_s: 9}}\n"))
    options = checked_options("sglang", options_of(fleet, fleet.replicas[0]))
    argv = command_of(site_in(tmp_path), placed("sglang", options, 1 << 30), 1).argv
    assert argv[argv.index("--lora-drain-wait-threshold") + 1] == "9"
    assert "adapter_wait_s" not in options_of(fleet_of("sglang"), fleet_of("sglang").replicas[0])


def test_an_adapter_without_a_path_needs_an_engine_that_has_it() -> None:
    fleet = fleet_of("vllm", "{name: sql, path: hub/sql}", "{name: sql}")
    with pytest.raises(InputError, match=(
            r"models\[0\].adapters\[0\].path: found nothing for sql; expected the folder or "
            r"repository from which vllm loads it, as penstock serve starts replicas\[0\] without "
            "adapters")):
        with_adapters(fleet)
    other = replace(fleet.replicas[0], endpoints=("http://127.0.0.1:1",))
    with_adapters(replace(fleet, replicas=(*fleet.replicas, other)))


def test_a_started_sglang_works_out_its_share_of_a_device_of_its_own(tmp_path) -> None:
    site = site_in(tmp_path)
    for share, states in ((0.5, True), (0.9, False)):
        used = int(share * site.accelerator.memory_bytes)
        argv = command_of(site, placed("sglang", {"model": "m"}, used), 1).argv
        assert ("--mem-fraction-static" in argv) is states
