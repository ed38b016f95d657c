"""Adapters from a folder, behind `penstock serve`, on emulated engines."""

import json
import urllib.error
import urllib.request

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


def test_workers_do_not_load_adapters(penstock, adapters) -> None:
    outcome = penstock("serve", "fleet.yaml", "--workers", "2", *LORA, "--set",
                       "replicas[0].endpoints=[http://127.0.0.1:1]")
    assert outcome.status == 2
    assert "--workers: one process alone must serve with models[].adapters" in outcome.err


def test_a_folder_without_adapters_is_one_clear_error(penstock, folder) -> None:
    (folder / "adapters").mkdir()
    outcome = penstock("simulate", "fleet.yaml", *LORA)
    assert outcome.status == 2
    assert "models[0].adapters_from" in outcome.err
    assert "has no adapters; expected folders with adapter_config.json" in outcome.err
    assert outcome.err.count("\n") == 1
