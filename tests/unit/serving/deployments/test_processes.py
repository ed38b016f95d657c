"""Engines as processes: started, asked, adopted by another controller, restarted, stopped."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.engines import process
from penstock.fleet.load import load_fleet
from penstock.policy.place.values import Footprint, Placement, Stage
from penstock.serving.deployments.commands import Command, command_of
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import Dependencies, RestartPolicy
from penstock.serving.deployments.deployments import DeployIntent, RefusedError, State
from penstock.serving.deployments.engines import EngineError
from penstock.serving.deployments.processes import process_engines
from penstock.serving.deployments.store import open_store
from support.simulated_deployments import World, deployment, site_in

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")
ONE = deployment(engine="emulate", options={"speed": 1000.0},
                 configuration=Configuration(Parallelism(), "int4", "fp16"))
SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": sys.argv[2]}]}).encode())
    def log_message(self, *a): pass
print("soon", flush=True)
if sys.argv[3] == "fails": sys.exit("the model is too large")
if sys.argv[3] == "hangs": time.sleep(600)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def small(cluster, one, port, kind="works", served="a"):
    return Command((sys.executable, "-c", SERVER, str(port), served, kind), "a")


@pytest.fixture(autouse=True)
def _no_process_is_left(monkeypatch):
    begun = []
    begin = process.begin

    def noted(*arguments):
        begun.append(begin(*arguments))
        return begun[-1]

    monkeypatch.setattr(process, "begin", noted)
    yield
    left = [one.pid for one in begun if process.started_mark(one.pid)]
    for pid in left:
        os.killpg(pid, signal.SIGKILL)
    assert not left


@asynccontextmanager
async def engines_in(folder, **options):
    async with process_engines(site_in(folder), **options) as found:
        yield found


async def started(engines, one=ONE):
    found = []
    await engines.start(one, found.append)
    return replace(one, instance=found[0])


def test_an_emulated_engine_answers_and_is_stopped(tmp_path):
    async def work():
        async with engines_in(tmp_path) as engines:
            one = await started(engines)
            assert engines.is_alive(one.instance)
            assert await engines.is_healthy(one)
            reply = await engines.ask(one, {"prompt": [5, 6, 7], "max_tokens": 7})
            assert (reply.prompt_tokens, reply.output_tokens) == (3, 7)
            assert reply.service_s > 0
            assert not reply.simulated
            chat = await engines.ask(one, {"messages": [{"role": "user", "content": "hi"}],
                                           "max_tokens": 3})
            assert chat.output_tokens == 3
            with pytest.raises(EngineError, match="max_tokens"):
                await engines.ask(one, {"prompt": "x", "max_tokens": -1})
            await engines.stop(one.instance, 10.0)
            assert not engines.is_alive(one.instance)
            assert not await engines.is_healthy(one)
            with pytest.raises(EngineError, match="unreachable"):
                await engines.ask(one, {"prompt": "x", "max_tokens": 1})

    asyncio.run(work())


@pytest.mark.parametrize(("kind", "message"), [
    ("fails", r"it ended while it started; its log ends: the model is too large \(.*a\.log\)"),
    ("hangs", r"it did not answer within 1 s; its log ends: soon")])
def test_an_engine_that_does_not_come_up(tmp_path, kind, message):
    async def work():
        def command(cluster, one, port):
            return small(cluster, one, port, kind)

        async with engines_in(tmp_path, start_s=1.0, command=command) as engines:
            begun = []
            with pytest.raises(EngineError, match=message):
                await engines.start(ONE, begun.append)
            await engines.stop(begun[0], 0.0)
            assert not engines.is_alive(begun[0])

    asyncio.run(work())


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path):
    async def work():
        def command(cluster, one, port):
            return small(cluster, one, port, served="b")

        async with engines_in(tmp_path, start_s=1.0, command=command) as engines:
            begun = []
            with pytest.raises(EngineError, match="did not answer"):
                await engines.start(ONE, begun.append)
            await engines.stop(begun[0], 5.0)

    asyncio.run(work())


def test_what_cannot_be_written_down_is_not_run(tmp_path):
    async def work():
        async with engines_in(tmp_path, command=small) as engines:
            seen = []

            def begun(instance):
                seen.append(instance)
                raise OSError("no space left")

            with pytest.raises(OSError, match="no space"):
                await engines.start(ONE, begun)
            assert not engines.is_alive(seen[0])
        assert (tmp_path / "state" / "logs" / "a.log").read_text() == ""

    asyncio.run(work())


def test_a_controller_adopts_what_another_left_and_restarts_what_died(tmp_path):
    async def work():
        world = World(tmp_path)

        async def controller(engines):
            dependencies = Dependencies({"emulate": engines}, world.choose, world.profile,
                                        lambda: world.now_s)
            found = Controller(world.cluster, open_store(world.cluster.state_file), dependencies,
                               restart_policy=RestartPolicy(grace_s=5.0))
            await found.recover()
            return found

        async with process_engines(world.cluster, command=small) as engines:
            control = await controller(engines)
            control.register("a", "llama-2-7b", "emulate", {})
            await control.deploy("a", DeployIntent())
            before = await control.settled("a")
            assert (before.state, before.reason) == (State.RUNNING, "")
            await control.close()
        async with process_engines(world.cluster, command=small) as engines:
            control = await controller(engines)
            assert control.show("a") == before
            await control.reconcile()
            assert control.show("a") == before
            os.kill(before.instance.pid, signal.SIGKILL)
            while process.is_same(before.instance.pid, before.instance.started):
                await asyncio.sleep(0.01)
            await control.reconcile()
            assert control.show("a").reason == "its engine is gone"
            with pytest.raises(RefusedError):
                await control.infer("a", {"prompt": "x"})
            world.now_s += 5.0
            await control.reconcile()
            after = await control.settled("a")
            assert after.state == State.RUNNING
            assert after.instance.pid != before.instance.pid
            await control.remove("a")
            assert (await control.settled("a")).state == State.REMOVED
            assert not engines.is_alive(after.instance)
            await control.close()

    asyncio.run(work())


def test_command_lines(tmp_path, monkeypatch):
    cluster = site_in(tmp_path)
    spread = Footprint("llama-2-7b", 32, 2, 2, 1 << 30)
    one = replace(ONE, engine="vllm", options={"model": "m", "eager": True, "max_model_len": 9},
                  configuration=Configuration(Parallelism(2, 2), "bf16", "fp8"),
                  placement=Placement(spread, (Stage(20, (2, 3)), Stage(12, (0, 1)))))
    found = command_of(cluster, one, 4711)
    line = " ".join(found.argv)
    assert line.startswith("vllm serve m --served-model-name a --host 127.0.0.1 --port 4711")
    for part in ("--tensor-parallel-size 2", "--pipeline-parallel-size 2", "--dtype bfloat16",
                 "--kv-cache-dtype fp8", "--max-model-len 9", "--enforce-eager",
                 "--gpu-memory-utilization 0.417"):
        assert part in line
    assert found.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                                 "CUDA_VISIBLE_DEVICES": "2,3,0,1",
                                 "VLLM_PP_LAYER_PARTITION": "20,12"}
    one = replace(ONE, engine="llamacpp", options={"model": "/m.gguf", "threads": 1})
    assert " ".join(command_of(cluster, one, 1).argv[1:]) == \
        "-P -m penstock lab engine /m.gguf --name a --port 1 --threads 1"
    one = replace(ONE, configuration=Configuration(Parallelism(2, 1), "int4_gptq", "fp16"))
    path = command_of(cluster, one, 1).argv[5]
    text = (cluster.folder / "engines" / "a" / "fleet.yaml").read_text()
    assert path.endswith("engines/a/fleet.yaml")
    assert "precision: int4\n" in text
    assert "tensor: 2" in text
    one = replace(one, model="llama-2-13b")  # of which the fleet expects no traffic
    fleet = load_fleet(Path(command_of(cluster, one, 1).argv[5]))
    assert [spec.model for spec in fleet.traffic] == ["llama-2-13b"]
    assert fleet.replicas[0].model.name == "llama-2-13b"
