"""Engines of a fleet and of replica groups."""

from dataclasses import replace

import pytest
import yaml

from penstock.catalog.engines import engine_facts, engine_names
from penstock.core.errors import InputError
from penstock.fleet.groups import equipped
from penstock.fleet.load import parse_fleet
from penstock.fleet.write import to_yaml
from penstock.plan.variants import variants_of
from support.kernel_tables import write_tables

FILE = {"accelerators": [{"name": "h100-80gb"}], "models": [{"name": "llama-3.1-8b"}],
        "service_classes": [{"name": "chat", "slo": {"ttft_s": 1}}],
        "traffic": [{"trace": "azure-2023-conv", "rate_per_s": 2, "num_requests": 10}]}


def fleet_of(*groups, **sections):
    replicas = {"replicas": list(groups)} if groups else {}
    return parse_fleet(yaml.safe_dump(FILE | replicas | sections))


def test_a_file_that_says_nothing_of_engines_has_stock_vllm():
    fleet = fleet_of({})
    group, = fleet.replicas
    assert (fleet.engine.name, fleet.engine.version) == ("vllm", None)
    assert fleet.policies.schedule.policy == "stock"
    assert group.step_time["kind"] == "measured"
    assert group.intake.plans_ahead
    assert fleet.engine.prefix_caching


@pytest.mark.parametrize("stated", [
    {"policies": {"schedule": "penstock"}}, {"replicas": [{"schedule": "sarathi"}]},
    {"replicas": [{"step_time": "roofline"}]},
    {"replicas": [{"endpoints": ["http://127.0.0.1:8001"]}]},
    {"variant": {"schedule": "sarathi"}},
    {"sizing": {"groups": [{"classes": ["chat"], "step_time": "roofline"}]}}])
def test_a_file_that_states_how_replicas_behave_has_ideal_engines(stated):
    fleet = fleet_of(**stated)
    assert fleet.engine.name is None
    assert fleet.schedule_of((*fleet.replicas, *fleet.sizing.groups)[0]).policy != "stock"


def test_a_group_may_have_an_engine_of_its_own():
    fleet = fleet_of({}, {"engine": "sglang"}, {"engine": "vllm", "version": "0.11.0"},
                     {"engine": "vllm"})
    usual, sglang, older, same = fleet.replicas
    assert usual.setup is same.setup is None
    assert fleet.engine_of(usual) == fleet.engine
    assert fleet.engine_of(sglang).memory_fraction == engine_facts("sglang").memory_fraction
    assert fleet.engine_of(older).version == "0.11.0"
    assert fleet.schedule_of(sglang).prefill_first
    assert not fleet.schedule_of(usual).prefill_first
    assert [group.step_time["engine"] for group in fleet.replicas] == [
        "vllm", "sglang", "vllm", "vllm"]


def test_limits_that_the_file_states_hold_for_every_engine():
    fleet = fleet_of({"engine": "sglang"}, engine={"name": "vllm", "max_num_seqs": 7})
    assert fleet.schedule_of(fleet.replicas[0]).max_num_seqs == 7


def test_a_stated_schedule_holds_in_a_groups_own_engine():
    fleet = fleet_of({"engine": "sglang", "schedule": "sarathi"})
    assert fleet.schedule_of(fleet.replicas[0]).policy == "sarathi"


@pytest.mark.parametrize("group", [
    {"engine": name} for name in engine_names()] + [{"engine": "vllm", "version": "0.11.0"}, {}])
def test_a_fleet_reads_back_with_its_engines(group):
    fleet = fleet_of(group)
    assert parse_fleet(to_yaml(fleet), fleet.name) == fleet


def test_a_plan_keeps_the_engines_of_running_groups():
    fleet = fleet_of({"engine": "sglang"})
    found, _ = variants_of(fleet, fleet.models[0], 1000, fleet.replicas)
    kind = next(v for v in found if v.group.parallelism.tensor == 1)
    assert kind.group.setup == fleet.replicas[0].setup


@pytest.mark.parametrize(("group", "text"), [
    ({"engine": "vlm"}, "did you mean 'vllm'"),
    ({"engine": "vllm", "version": "0.1"}, "older than"),
    ({"version": "1.0"}, "names a version of auto"),
    ({"engine": "atom", "endpoints": ["http://127.0.0.1:1"]}, "atom")])
def test_bad_engines_are_refused(group, text):
    with pytest.raises(InputError, match=text):
        fleet_of(group)


def test_step_times_of_the_engine_are_those_of_all_replicas_that_state_none():
    slow = {"kind": "roofline", "factor": 2.0}
    fleet = fleet_of({}, {"step_time": "roofline"}, engine={"name": "vllm", "step_time": slow})
    assert [group.step_time for group in fleet.replicas] == [slow, "roofline"]
    assert parse_fleet(to_yaml(fleet)) == fleet
    unsized = fleet_of(engine={"step_time": slow})
    assert unsized.engine.name == "vllm"
    variants, _ = variants_of(unsized, unsized.models[0], 1000)
    assert all(variant.group.step_time == slow for variant in variants)


@pytest.mark.parametrize(("engine", "backend"), [
    ("sglang", "sglang"), ("tensorrt-llm", "trtllm"), ("penstock-in-vllm", "vllm")])
def test_kernel_tables_are_those_of_the_engine(engine, backend):
    fleet = fleet_of(engine={"name": engine})
    group = variants_of(fleet, fleet.models[0], 1000)[0][0].group
    tables = {"kind": "kernels", "path": "tables"}
    found = equipped(replace(group, step_time=None), replace(fleet.engine, step_time=tables))
    assert found.step_time == tables | {"backend": backend, "host_overhead_s": 0.0}
    stated = tables | {"backend": "vllm", "host_overhead_s": 0.001}
    found = equipped(replace(group, step_time=None), replace(fleet.engine, step_time=stated))
    assert found.step_time == stated


def test_an_engine_that_does_not_plan_ahead_waits_for_its_host():
    fleet = fleet_of(engine={"name": "vllm", "version": "0.9.0"})
    group = variants_of(fleet, fleet.models[0], 1000)[0][0].group
    found = equipped(replace(group, step_time={"kind": "kernels", "path": "x"}), fleet.engine)
    assert not found.intake.plans_ahead
    assert "host_overhead_s" not in found.step_time


def test_a_variant_without_kernel_tables_is_left_out_with_the_reason(tmp_path):
    tables = write_tables(tmp_path / "tables")
    fleet = fleet_of(engine={"step_time": {"kind": "kernels", "path": str(tables)}})
    found, left_out = variants_of(fleet, fleet.models[0], 1000)
    assert not found
    assert all("no system fits h100-80gb" in left.reason for left in left_out)


@pytest.mark.parametrize(("engine", "told"), [
    ({"step_time": "roofline", "rates": "x.yaml"}, "engine.step_time: stands beside engine.rates"),
    ({"step_time": {"kind": "kernels"}}, "kind kernels needs path"),
    ({"step_time": {"kind": "kernels", "path": "none"}}, "engine.step_time.path: no file 'none'")])
def test_step_times_that_cannot_be_are_refused(engine, told):
    with pytest.raises(InputError) as refused:
        fleet_of({}, engine=engine)
    assert told in str(refused.value)
