"""Several models behind ``model: auto``: every routing policy by its name in the fleet file."""

import pytest

import penstock.published.routebalance.run as routebalance
from penstock.registry.policies import ROUTERS

MODELS = """\
name: choice
accelerators: [{name: a100-80gb, count: 4}]
models:
  - {name: llama-3-8b, quality: 0.5, price: {input_per_million: 0.1, output_per_million: 0.2}}
  - {name: qwen2.5-14b, quality: 0.7, price: {input_per_million: 0.5, output_per_million: 1.0}}
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
traffic:
  - model: auto
    lengths: {prompt: {fixed: 300}, output: {fixed: 30}}
    rate_per_s: 8
    num_requests: 50
replicas:
  - {model: llama-3-8b, count: 2}
  - {model: qwen2.5-14b, count: 1}
policies: {schedule: sarathi, route: joint}
"""
NEEDED = {"fixed_mix": ("--set", "policies.route.shares.llama-3-8b=1")}


@pytest.fixture
def fleet(folder) -> str:
    (folder / "choice.yaml").write_text(MODELS)
    return "choice.yaml"


def test_every_policy_serves_requests_that_leave_the_model_open(penstock, fleet) -> None:
    for name in ROUTERS.names():
        done = penstock("run", fleet, "--set", f"policies.route.name={name}",
                        *NEEDED.get(name, ()), "--json")
        assert done.status == 0, (name, done.err)
        overall = done.json["overall"]
        assert (overall["received"], overall["finished"]) == (50, 50), name


def test_a_wrong_setting_is_told_with_its_line(penstock, fleet) -> None:
    done = penstock("run", fleet, "--set", "policies.route.name=joints")
    assert done.status == 2
    assert "joints" in done.err
    assert "joint" in done.err
    done = penstock("run", fleet, "--set", "policies.route.min_chance=2")
    assert done.status == 2
    assert "min_chance" in done.err
    assert "from 0 to 0.95" in done.err
    assert "Traceback" not in done.err


def test_reproduce_routebalance_on_few_requests(penstock, shared_data, monkeypatch) -> None:
    """Every policy once at the highest rate; the figures that hold however few there are."""
    every = routebalance.fixed_mixes()
    assert len(every) == 35
    monkeypatch.setattr(routebalance, "RATES", (30.0,))
    monkeypatch.setattr(routebalance, "NUM_SEEDS", 1)
    monkeypatch.setattr(routebalance, "fixed_mixes", lambda: every[::17])
    done = penstock("lab", "reproduce", "routebalance", "--data", shared_data / "routebalance",
                    "--requests", 200, "--json")
    assert done.status in (0, 1), done.err
    figures = {figure["name"]: figure for figure in done.json["figures"]}
    assert all(figures[f"qwen2.5-{size}: {what}"]["agrees"] for size in ("3b", "7b", "14b", "72b")
               for what in ("engines", "ms per token at low load"))
    assert figures["price corner: cost over always-smallest"]["ours"] == pytest.approx(1.0, rel=.02)
    slower = figures["BEST-Route over RouteBalance, mean e2e at 30/s, at least"]
    assert slower["ours"] > 1.0
    regret = figures["30/s: regret to the oracle, share of its utility"]
    assert 0.0 < regret["ours"] < 1.0


def test_a_folder_without_tiers_is_told(penstock, folder) -> None:
    done = penstock("lab", "reproduce", "routebalance", "--data", ".", "--requests", 100)
    assert done.status == 2
    assert "tiers.json" in done.err
    assert "Traceback" not in done.err
