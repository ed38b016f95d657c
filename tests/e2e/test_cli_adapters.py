"""Adapters from a folder, behind `penstock serve`, on emulated engines."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from support.penstock_process import process

LORA = ["--set", "replicas[0].lora={max_loras: 2}", "--set", "models[0].adapters_from=adapters"]


@pytest.fixture
def adapters(folder):
    """Two adapters in a folder of their own each."""
    for name in ("sql", "poem"):
        (folder / "adapters" / name).mkdir(parents=True)
        (folder / "adapters" / name / "adapter_config.json").write_text('{"r": 8}')


def ask(url, model):
    request = urllib.request.Request(
        f"{url}/v1/completions",
        data=json.dumps({"model": model, "prompt": "x", "max_tokens": 2}).encode(),
        headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["model"]


def test_adapters_of_a_folder_are_served(repository, folder, adapters) -> None:
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000",
                 *LORA) as engine:
        url = engine.stdout.readline().split()[1]
        with pytest.raises(urllib.error.HTTPError) as error:
            ask(url, "sql")
        error.value.close()
        assert error.value.code == 404, "it is not loaded yet"
        with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *LORA, "--set",
                     f"replicas[0].endpoints=[{url}]") as front:
            gateway = front.stdout.readline().split()[1]
            assert [ask(gateway, name) for name in ("sql", "poem", "sql")] == ["sql", "poem", "sql"]
            with urllib.request.urlopen(f"{gateway}/v1/models", timeout=60) as response:
                parents = {one["id"]: one.get("parent") for one in json.load(response)["data"]}
            model = parents["sql"]
            assert parents == {model: None, "sql": model, "poem": model}
            with urllib.request.urlopen(f"{gateway}/v1/penstock/status", timeout=60) as response:
                assert json.load(response)["engines"][0]["adapters"] == ["poem", "sql"]


def test_several_workers_load_adapters_and_take_none_from_each_other(
        repository, folder, adapters) -> None:
    room = ["--set", "replicas[0].lora={max_loras: 1, max_cpu_loras: 1}", *LORA[2:]]
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "50",
                 *room) as engine:
        url = engine.stdout.readline().split()[1]
        with process(repository, folder, "serve", "fleet.yaml", "--port", "0", "--workers", "2",
                     *room, "--set", f"replicas[0].endpoints=[{url}]") as front:
            gateway = front.stdout.readline().split()[1]
            with ThreadPoolExecutor(8) as pool:  # each request has a connection of its own
                names = ["sql", "poem", "poem"] * 8
                assert list(pool.map(lambda name: ask(gateway, name), names)) == names
            with urllib.request.urlopen(f"{gateway}/metrics", timeout=60) as response:
                metrics = response.read().decode()
            assert 'what="missing"' not in metrics, "no request met an engine without its adapter"
            assert 'what="failed"' not in metrics


def test_a_folder_without_adapters_is_one_clear_error(penstock, folder) -> None:
    (folder / "adapters").mkdir()
    outcome = penstock("simulate", "fleet.yaml", *LORA)
    assert outcome.status == 2
    assert "models[0].adapters_from" in outcome.err
    assert "has no adapters; expected folders with adapter_config.json" in outcome.err
    assert outcome.err.count("\n") == 1
