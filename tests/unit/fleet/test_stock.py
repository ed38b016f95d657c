"""Stock engines in fleet files."""

import pytest
import yaml

from penstock.catalog import load_catalog
from penstock.catalog.engines import engine_defaults, engine_names
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.sources import fleet_workload
from penstock.fleet.stock import simulated_engines, stock_schedule
from penstock.fleet.write import resolved
from penstock.sim.simulation import simulate

FLEET = """
accelerators: [{name: h100-80gb, count: 8}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 1, itl_s: 0.05}}]
traffic: [{name: t, lengths: {prompt: {fixed: 400}, output: {fixed: 30}}, rate_per_s: 5,
           num_requests: 40}]
replicas: [{count: 2}]
engine: {name: vllm, version: "0.19.0"}
"""


def fleet_of(engine: str, more: str = ""):
    return parse_fleet(FLEET.replace("{name: vllm, version: \"0.19.0\"}", engine) + more)


def test_a_named_engine_brings_its_scheduler_intake_and_step_times() -> None:
    fleet = parse_fleet(FLEET)
    group = fleet.replicas[0]
    schedule = fleet.schedule_of(group)
    assert schedule.policy == "sarathi"
    assert (schedule.chunk_tokens, schedule.max_num_seqs) == (8192, 1024)
    assert group.intake.plans_ahead
    assert group.step_time == {"kind": "measured", "engine": "vllm", "version": "0.19.0"}
    assert (fleet.engine.prefix_caching, fleet.engine.block_tokens) == (True, 16)
    assert "fitted" in step_time(group).evidence.source


def test_a_stated_policy_and_setting_hold() -> None:
    fleet = fleet_of("{name: vllm, memory_fraction: 0.8, max_num_seqs: 32}",
                     "policies: {schedule: edf}\n")
    assert fleet.schedule_of(fleet.replicas[0]).policy == "edf"
    assert fleet.engine.memory_fraction == 0.8
    stock = fleet_of("{name: vllm, max_num_seqs: 32}")
    assert stock.schedule_of(stock.replicas[0]).max_num_seqs == 32


def test_penstock_inside_an_engine_keeps_its_kernels_alone() -> None:
    fleet = fleet_of("{name: penstock-in-vllm}")
    group = fleet.replicas[0]
    assert fleet.schedule_of(group).policy == "penstock"
    assert group.step_time["engine"] == "vllm"


@pytest.mark.parametrize("engine", simulated_engines())
def test_every_engine_simulates(engine: str) -> None:
    fleet = fleet_of(f"{{name: {engine}}}")
    table = simulate(fleet, fleet_workload(fleet)).table
    assert table.finished.all()
    assert (table.ttft_s > 0.003).all()  # the front end's time at least


def test_the_fleet_is_written_and_read_back() -> None:
    fleet = parse_fleet(FLEET)
    assert parse_fleet(yaml.safe_dump(resolved(fleet))) == fleet


@pytest.mark.parametrize(("engine", "more", "why"), [
    ("{name: vlm}", "", "vllm"), ("{name: vllm, version: 0.0.1}", "", "older than"),
    ("{name: vllm, version: new}", "", "expected a version"),
    ("{version: 0.19.0}", "", "engine.name"),
    ("{}", "policies: {schedule: stock}\n", "engine.name states none"),
    ("{name: vllm}", "policies: {schedule: {name: stock, adapter_wait_s: 9}}\n",
     "policies.schedule.adapter_wait_s: vllm lets a request wait"),
    ("{name: sglang, version: 0.5.11}",
     "policies: {schedule: {name: stock, adapter_wait_s: 9}}\n",
     "expected no adapter_wait_s, or sglang 0.5.12 or later"),
    ("{name: sglang}", "policies: {schedule: {name: stock, adapter_wait_s: 0}}\n",
     "0 means no bound to sglang; expected more than 0")])
def test_bad_engines_are_one_clear_error(engine: str, more: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        fleet_of(engine, more)


def test_names_have_ours_inside() -> None:
    assert set(simulated_engines()) == {*engine_names(),
                                        *(f"penstock-in-{name}" for name in engine_names())}


def test_moved_prompts_do_not_hold_decodes_up() -> None:
    sglang = engine_defaults("sglang", load_catalog().accelerator("h200"))
    assert stock_schedule(sglang).prefill_first
    assert not stock_schedule(sglang, moved_prompts=True).prefill_first


def test_sglangs_own_scheduler_bounds_the_wait_for_an_adapter_where_the_file_says_so() -> None:
    text = FLEET.replace("count: 2", "count: 1, lora: {max_loras: 1}").replace(
        "{name: llama-3.1-8b}", "{name: llama-3.1-8b, adapters: [{name: a}, {name: b}]}").replace(
        "num_requests: 40", "num_requests: 200, adapters: {weights: {a: 9, b: 1}}").replace(
        "fixed: 30", "fixed: 150").replace('vllm, version: "0.19.0"', "sglang")
    bound = parse_fleet(text + "policies: {schedule: {name: stock, adapter_wait_s: 2}}\n")
    assert parse_fleet(yaml.safe_dump(resolved(bound))) == bound
    assert bound.schedule_of(bound.replicas[0]).adapter_wait_s == 2.0
    assert parse_fleet(text).schedule_of(parse_fleet(text).replicas[0]).adapter_wait_s is None
    longest = [float(simulate(fleet, fleet_workload(fleet)).table.ttft_s.max())
               for fleet in (bound, parse_fleet(text))]
    assert longest[0] < 5.0 < longest[1]
