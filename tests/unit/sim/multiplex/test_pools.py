"""From a pool of a fleet file to its devices, its policy and its actuators."""

import asyncio
from dataclasses import replace
from math import inf

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.slo import ServiceClass, Slo
from penstock.engines.actuators.process import ProcessActuator
from penstock.engines.engine import EngineEnvironment
from penstock.engines.llamacpp.router_actuator import LlamaServerActuator
from penstock.engines.ollama.actuator import OllamaActuator
from penstock.engines.vllm.actuator import VllmActuator
from penstock.fleet.load import parse_fleet
from penstock.fleet.multiplex_factory import deadline_after_s, devices_of, policy_of
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Load, Queued, Shed, Wait
from penstock.published.sincere.policy import sincere_settings
from penstock.registry.policies import MULTIPLEXERS
from penstock.serving.multiplex.make import actuator_of, driver_of
from support.small_fleet import FLEET

URLS = ["http://127.0.0.1:1", "http://127.0.0.1:2"]


def fleet_of(**pool):
    return parse_fleet(FLEET, overrides={
        "models": [{"name": "llama-3-8b"}, {"name": "llama-2-7b"}],
        "traffic": [{"model": "auto", "mix": {"chat": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": None, "multiplexing": [{"name": "gpu", "memory_gib": 20, "models": [
            {"model": "llama-3-8b", "e2e_s": 9, "max_batch": 1},
            {"model": "llama-2-7b"}], **pool}]})


def test_every_policy_can_be_named() -> None:
    for name in MULTIPLEXERS.names():
        fleet = fleet_of(policy=name, batching="static")
        pool, = fleet.multiplexing
        policy, device = policy_of(pool, fleet.service_classes), devices_of(pool)[0]
        policy.add(Queued(0, 0, 0.0, 100.0), 0.0)
        action = policy.next(device, 0.0)
        assert isinstance(action, Load | Wait), name
        assert policy.num_waiting == 1


def test_settings_reach_the_policy() -> None:
    for shed in (True, False):
        pool, = fleet_of(policy={"name": "penstock", "shed": shed}).multiplexing
        policy = policy_of(pool, [ServiceClass("any")])
        policy.add(Queued(0, 0, 0.0, 0.001), 1.0)
        assert isinstance(policy.next(devices_of(pool)[0], 1.0), Shed) == shed


def test_sincere_goes_by_the_files_batches_and_loads() -> None:
    pool, = fleet_of(policy={"name": "sincere-best-batch", "overwrite": True}, batching="static"
                     ).multiplexing
    models = [model.hosted() for model in pool.models]
    context = MultiplexContext(models, LoadTable([9.0, 9.0]), [1.0, 2.0], 40.0)
    found = sincere_settings(pool.settings, context)
    assert (found.sla_s, found.overwrite, list(found.best_batch)) == (40.0, True, [1, 64])
    assert [row.load_s for row in found.load_table] == [1.0, 2.0]
    assert [row.load_s for row in sincere_settings({}, context._replace(load_s=())).load_table
            ] == [9.0, 9.0]


def test_devices_hold_what_the_pool_says() -> None:
    pool, = fleet_of(count=2, max_residents=1, batching="static").multiplexing
    first, second = devices_of(pool)
    assert isinstance(first, Device)
    assert (first.index, second.index, first.memory_bytes) == (0, 1, 20 * 2**30)
    assert (first.continuous, first.max_residents) == (False, 1)


def test_the_nearer_deadline_counts() -> None:
    strict, loose = (model for model in fleet_of().multiplexing[0].models)
    chat, batch = ServiceClass("chat", Slo(e2e_s=5)), ServiceClass("batch", Slo())
    assert [deadline_after_s(model, one) for model in (strict, loose)
            for one in (chat, batch)] == [5, 9, 5, inf]


def test_each_engine_has_its_actuator_on_each_device(tmp_path) -> None:
    kinds = {
        VllmActuator: {"kind": "vllm", "endpoints": URLS},
        OllamaActuator: {"kind": "ollama", "endpoints": URLS, "served_as": "llama3"},
        LlamaServerActuator: {"kind": "llama-server", "endpoints": URLS},
        ProcessActuator: {"kind": "process", "command": ["serve", "{port}"]}}

    async def run():
        for actuator, engine in kinds.items():
            fleet = fleet_of(count=2, models=[{"model": "llama-3-8b", "engine": engine}])
            around = EngineEnvironment(None, tmp_path / "engines", asyncio.get_running_loop(),
                                       print)
            driver = driver_of(fleet, fleet.multiplexing[0], around)
            made = [row[0] for row in driver._actuators._actuators]
            assert [type(one) for one in made] == [actuator, actuator]
            if "endpoints" in engine:
                assert [one._calls.url for one in made] == URLS
            await driver.close()

    asyncio.run(run())


def test_engines_of_like_names_have_files_of_their_own(tmp_path) -> None:
    engine = {"kind": "process", "command": ["serve", "{port}"]}

    async def run():
        fleet = fleet_of(models=[{"model": "llama-3-8b", "engine": engine}])
        pool = fleet.multiplexing[0]
        around = EngineEnvironment(None, tmp_path, asyncio.get_running_loop(), print)
        model = pool.models[0]
        named = [replace(model, spec=replace(model.spec, name=name))
                 for name in ("my/model", "my_model", "my model")]
        files = {actuator_of(fleet, pool, one, 0, around)._file for one in named}
        assert len(files) == 3
        assert all(one.parent == tmp_path for one in files)

    asyncio.run(run())
