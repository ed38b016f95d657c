"""Adapters from a folder, behind `penstock serve`, on emulated engines."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.metrics.request_file import read_requests
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


MANY = """\
name: many
accelerators: [{name: a100-80gb, count: 8, price_per_hour: 2}]
models: [{name: llama-3.1-8b, adapters_from: list.yaml}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, priority: 3, slo: {e2e_s: 300}}
traffic:
  - mix: {chat: 1.0}
    lengths: {prompt: {fixed: 300}, output: {fixed: 60}}
    rate_per_s: 20
    num_requests: 1000
    adapters: {zipf: 1.0, base_share: 0.1}
replicas: [{count: 4, lora: {max_loras: 8, max_cpu_loras: 32, max_rank: 32}}]
policies: {schedule: sarathi, route: round_robin}
"""


@pytest.fixture
def many(folder):
    """A fleet of four replicas, and a hundred adapters, one of which has a service class."""
    (folder / "list.yaml").write_text("- {name: slow, service_class: batch}\n" + "".join(
        f"- {{name: a{number:02}, rank: {8 << number % 3}}}\n" for number in range(99)))
    (folder / "many.yaml").write_text(MANY)
    return folder / "many.yaml"


def simulated(penstock, *more):
    """The summary of a run, whatever its verdict is."""
    outcome = penstock("run", "many.yaml", "--json", *more)
    assert outcome.status in (0, 1)
    return outcome.json


def test_a_hundred_adapters_on_four_replicas(penstock, many) -> None:
    found = simulated(penstock, "--out", "runs/one")
    adapters = found["adapters"]
    assert len(adapters["adapters"]) == 20
    parts = [*adapters["adapters"].values(), adapters["others"], adapters["base"]]
    assert sum(part["received"] for part in parts) == found["overall"]["received"] == 1000
    assert sum(part["met"] for part in parts) == found["overall"]["met"]
    received = [part["received"] for part in adapters["adapters"].values()]
    assert received == sorted(received, reverse=True)
    assert adapters["base"]["received"] == pytest.approx(100, abs=40)
    loads = adapters["loads"]
    assert adapters["num_adapters"] <= loads["from_disk"] <= loads["to_device"]
    assert loads["waited_s"] > 0
    assert found["classes"]["batch"]["received"] == adapters["adapters"]["slow"]["received"]
    again = simulated(penstock, "--out", "runs/two")
    assert {**again, "fleet": None} == {**found, "fleet": None}


def test_requests_keep_their_adapter(penstock, many, folder) -> None:
    simulated(penstock, "--out", "runs/one")
    table = read_requests(folder / "runs" / "one" / "requests.parquet")
    assert table.adapters is not None
    slow = table.take(table.adapters.index == table.adapters.names.index("slow"))
    assert {slow.service_classes[index] for index in slow.class_index} == {"batch"}


def test_near_replicas_save_loads(penstock, many, monkeypatch) -> None:
    near = simulated(penstock)["adapters"]["loads"]
    monkeypatch.setattr("penstock.sim.dispatch.near",
                        lambda snapshots, nearness, tokens: list(range(len(snapshots))))
    anywhere = simulated(penstock)["adapters"]["loads"]
    assert near["from_disk"] < 0.7 * anywhere["from_disk"]
    assert near["to_device"] < 0.7 * anywhere["to_device"]


def test_adapters_cost_memory_and_time(penstock, many) -> None:
    def figures(*more):
        found = simulated(penstock, *more)
        return found["overall"]["latency"]["tpot_s"]["p50"]

    base = figures("--set", "traffic[0].adapters=null")
    free = figures("--set", "replicas[0].lora.step_overhead_s=0")
    usual = figures()
    assert base < free < usual
    assert usual > base + 0.0015


def test_a_plan_of_adapters_states_the_room_that_it_assumes(penstock, many) -> None:
    outcome = penstock("plan", "many.yaml", "--json", "--set", "replicas=null", "--set",
                       "traffic[0].num_requests=300")
    assert outcome.status == 0
    (group,) = outcome.json["replicas"]
    assert group["lora"]["max_loras"] == 8
    assert group["lora"]["max_rank"] == 32
    assert "at most 8 adapters in a batch and 100 in host memory, up to rank 32" in outcome.err
    stated = penstock("plan", "many.yaml", "--json", "--set", "traffic[0].num_requests=300")
    (group,) = stated.json["replicas"]
    assert group["lora"]["max_cpu_loras"] == 32


@pytest.mark.parametrize(("adapters", "said"), [
    ("{weights: {a00: 1, a0: 1}}", "unknown adapter 'a0'"),
    ("{weights: {a00: 1}, zipf: 1}", "stands beside weights"),
    ("{weights: {a00: 0}}", "all are 0"),
    ("{base_share: 2}", "traffic[0].adapters.base_share"),
    ("{share: 1}", "traffic[0].adapters.share")])
def test_wrong_adapters_of_traffic_are_one_clear_error(penstock, many, adapters, said) -> None:
    outcome = penstock("run", "many.yaml", "--set", f"traffic[0].adapters={adapters}")
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_adapters_of_a_model_without_any(penstock) -> None:
    outcome = penstock("run", "fleet.yaml", "--set", "traffic[0].adapters={zipf: 1}")
    assert outcome.status == 2
    assert "traffic[0].adapters: llama-3-8b has none; expected models[].adapters" in outcome.err
