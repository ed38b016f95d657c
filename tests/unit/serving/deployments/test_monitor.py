"""What others hold of accelerators counts before anything is placed."""

import sys
from types import SimpleNamespace

import pytest

from penstock.serving.deployments.deployments import DeployIntent, RefusedError
from penstock.serving.deployments.monitor import used_bytes
from support.simulated_deployments import (
    GIB,
    World,
    deployment,
    free_gib,
    in_loop,
    running,
    site_in,
)


def library(*used_gib):
    return SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: len(used_gib),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda index: SimpleNamespace(used=used_gib[index] * GIB))


@pytest.mark.parametrize(("engine", "used_gib", "expected"), [
    ("vllm", (1, 2, 3, 4), {0: 1, 1: 2, 2: 3, 3: 4}), ("vllm", (5, 6), {0: 5, 1: 6}),
    ("vllm", (1,) * 8, {0: 1, 1: 1, 2: 1, 3: 1}), ("emulate", (1, 2, 3, 4), {}),
    ("llamacpp", (1, 2, 3, 4), {})])
def test_what_is_read(tmp_path, monkeypatch, engine, used_gib, expected):
    monkeypatch.setitem(sys.modules, "pynvml", library(*used_gib))
    found = used_bytes(site_in(tmp_path), deployment(engine=engine))
    assert {device: used // GIB for device, used in found.items()} == expected


@pytest.mark.parametrize("broken", [None, SimpleNamespace()])
def test_without_a_driver_nothing_is_known(tmp_path, monkeypatch, broken):
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert used_bytes(site_in(tmp_path), deployment(engine="vllm")) == {}


@in_loop
async def test_nothing_is_placed_on_what_others_hold(tmp_path):
    world = World(tmp_path)
    world.used = {0: 40 * GIB, 1: 8 * GIB}
    async with world.open() as control:
        assert (await running(control)).devices != (0,)
        assert free_gib(control)[0] == 8
        world.used = dict.fromkeys(range(4), 47 * GIB)
        control.register("b", "llama-2-7b", "sim", {})
        with pytest.raises(RefusedError) as told:
            await control.deploy("b", DeployIntent())
        assert told.value.code == "no_room"
