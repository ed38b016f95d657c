"""A folder of deployments, opened with everything that it takes."""

import asyncio
import json

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.serving.deployments.cluster import FLEET as FLEET_FILE
from penstock.serving.deployments.cluster import SERVER, create_cluster, open_cluster
from penstock.serving.deployments.commands import checked_options
from penstock.serving.deployments.deployments import DeployIntent
from penstock.serving.deployments.opening import OpenOptions, opened, watch
from penstock.serving.deployments.remote import deployments_in
from penstock.serving.deployments.store import InUseError
from penstock.serving.deployments.verbs import LocalDeployments
from support.simulated_deployments import FLEET, site_in


def test_whoever_has_the_folder_answers(tmp_path):
    async def work():
        cluster = site_in(tmp_path)
        (cluster.folder / SERVER).write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": 1}))
        async with deployments_in(cluster.folder) as first:
            assert isinstance(first, LocalDeployments)
            assert not (cluster.folder / SERVER).exists()
            with pytest.raises(InUseError):
                async with opened(cluster.folder, OpenOptions(lock_timeout_s=0.0)):
                    pass
            with pytest.raises(InputError, match="another command has this folder open"):
                async with deployments_in(cluster.folder, lock_timeout_s=0.0):
                    pass
            await first.call("register", "", {"name": "a", "model": "llama-2-7b"})
        async with opened(cluster.folder) as control:
            assert control.show("a").engine == "sim"

    asyncio.run(work())


def test_what_goes_wrong_with_one_is_told_and_the_watch_goes_on():
    class Control:
        looks = 0

        async def reconcile(self):
            self.looks += 1
            raise ZeroDivisionError

    async def work():
        control, told = Control(), []
        task = asyncio.create_task(watch(control, 0.0, told.append))
        while control.looks < 3:
            await asyncio.sleep(0)
        task.cancel()
        assert "ZeroDivisionError" in told[1]

    asyncio.run(work())


def test_a_site_comes_back_as_it_was_made(tmp_path):
    (tmp_path / "measured").mkdir()
    (tmp_path / "fleet.yaml").write_text(FLEET)
    made = create_cluster(tmp_path / "s", tmp_path / "fleet.yaml", tmp_path / "measured")
    assert open_cluster(tmp_path / "s") == made
    assert made.train == (tmp_path / "measured").resolve()
    assert [(one.device_id, one.node, one.total_bytes) for one in made.devices()] == [
        (number, "node-0", made.accelerator.memory_bytes) for number in range(4)]
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("old", "new", "message"), [
    (", count: 4", "", "accelerators: expected one kind, with its count"),
    ("count: 4}", "count: 4}, {name: l4, count: 1}", "accelerators: expected one kind"),
    ("llama-2-13b", "lama-2-13b", "did you mean 'llama-2-13b'")])
def test_fleets_that_cannot_be_deployed_on(tmp_path, old, new, message):
    (tmp_path / "fleet.yaml").write_text(FLEET.replace(old, new))
    with pytest.raises(InputError, match=message):
        create_cluster(tmp_path / "s", tmp_path / "fleet.yaml")
    assert not (tmp_path / "s").exists()


def test_a_model_that_is_there_is_named_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.gguf").touch()
    (tmp_path / "m").mkdir()
    for engine, given, expected in (("llamacpp", "m.gguf", str(tmp_path / "m.gguf")),
                                    ("vllm", "m", str(tmp_path / "m")),
                                    ("vllm", "meta/llama", "meta/llama")):
        assert checked_options(engine, {"model": given}) == {"model": expected}


def test_a_fleet_that_shrank_under_a_deployment(tmp_path):
    async def work():
        cluster = site_in(tmp_path)
        async with opened(cluster.folder) as control:
            control.register("a", "llama-2-7b", "sim", {"load_s": 0})
            exact = Configuration(Parallelism(4), "int4", "fp16")
            await control.deploy("a", DeployIntent(configuration=exact))
            await control.settled("a")
        text = (cluster.folder / FLEET_FILE).read_text()
        (cluster.folder / FLEET_FILE).write_text(text.replace("count: 4", "count: 2"))
        with pytest.raises(InputError, match="deployment a is on accelerator 2; the fleet has 2"):
            async with opened(cluster.folder):
                pass
        (cluster.folder / FLEET_FILE).write_text(text)
        async with opened(cluster.folder) as control:
            assert control.show("a").state == "running"

    asyncio.run(work())


def test_accelerators_cost_what_the_fleet_says(tmp_path):
    (tmp_path / "fleet.yaml").write_text(FLEET.replace("count: 4", "count: 4, price_per_hour: 7"))
    assert create_cluster(tmp_path / "s", tmp_path / "fleet.yaml").accelerator.price_per_hour == 7.0
