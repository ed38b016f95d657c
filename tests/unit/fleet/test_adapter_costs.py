"""Room and times of adapters, as a fleet file states them."""

from typing import Any

import pytest

from penstock.fleet.adapter_costs import (
    adapter_store,
    lora_assumptions,
    taken_adapters,
    usual_lora,
    with_adapters,
)
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.fleet.values_adapters import Adapter, LoraOptions, TrafficAdapters
from penstock.fleet.write import to_yaml
from penstock.perf.adapters import adapter_bytes
from support.small_fleet import FLEET

ADAPTERS = [{"name": "a", "rank": 8}, {"name": "b", "rank": 16}, {"name": "c"}]


def fleet(adapters: Any = None, lora: Any = None, **more: Any) -> Fleet:
    return parse_fleet(FLEET, overrides={
        "models": [{"name": "llama-3-8b", "adapters": ADAPTERS}],
        "replicas": [{"count": 1, "lora": lora or {"max_loras": 2}}],
        **({} if adapters is None else {"traffic[0].adapters": adapters}), **more})


@pytest.mark.parametrize(("stated", "expected"), [
    ({"zipf": 1.1, "base_share": 0.3}, TrafficAdapters(None, 1.1, 0.3)),
    ({"weights": {"a": 3, "b": 0}}, TrafficAdapters({"a": 3, "b": 0})),
    ({}, TrafficAdapters())])
def test_adapters_of_traffic_are_written_back(stated: Any, expected: TrafficAdapters) -> None:
    found = fleet(stated)
    assert found.traffic[0].adapters == expected
    assert parse_fleet(to_yaml(found), "small") == found


def test_settings_of_the_room_are_written_back() -> None:
    found = fleet(lora={"max_loras": 2, "step_overhead_s": 0.001, "disk_gb_per_s": 2,
                        "copy_gb_per_s": 20})
    assert found.replicas[0].lora == LoraOptions(2, None, 16, 0.001, 2.0, 20.0)
    assert parse_fleet(to_yaml(found), "small") == found


def test_places_take_memory() -> None:
    plain = parse_fleet(FLEET)
    found = fleet(lora={"max_loras": 4, "max_rank": 64})
    gone = kv_tokens(plain, plain.replicas[0]) - kv_tokens(found, found.replicas[0])
    model = found.models[0].spec
    assert gone * model.kv_bytes_per_token("bf16") == pytest.approx(4 * adapter_bytes(model, 64),
                                                                    rel=0.01)


def test_places_that_leave_no_memory_are_one_clear_error() -> None:
    with pytest.raises(Exception, match=r"replicas\[0\].*places for adapters take 160"):
        fleet(lora={"max_loras": 512, "max_rank": 64})


def test_the_store_has_the_times_of_each_rank() -> None:
    found = fleet(lora={"max_loras": 2, "max_cpu_loras": 3, "max_rank": 32, "disk_gb_per_s": 1,
                        "copy_gb_per_s": 10, "step_overhead_s": 0.001})
    group = found.replicas[0]
    store = adapter_store(found, group.model, group.accelerator, group.parallelism, group.lora)
    assert store is not None
    assert (store.max_loras, store.most_loaded) == (2, 3)
    model, accelerator = found.models[0].spec, found.replicas[0].accelerator
    for name, rank in (("a", 8), ("b", 16), ("c", 32), ("not in the file", 32)):
        size = adapter_bytes(model, rank)
        store.start(name)
        assert store.settle() / 1e12 == pytest.approx(size / 1e9 + size / 1e10)
        assert store.step_ps / 1e12 == pytest.approx(
            0.001 + size / accelerator.bandwidth_bytes_per_s)
        store.leave(name)


def test_engines_take_ranks_up_to_theirs() -> None:
    room = LoraOptions(max_rank=16)
    assert room.takes(Adapter("a", rank=16))
    assert room.takes(Adapter("a"))
    assert not room.takes(Adapter("a", rank=17))
    found = fleet()
    name = found.models[0].spec.name
    assert taken_adapters(found, name, LoraOptions(max_rank=8)) == {"a", "c"}
    assert taken_adapters(found, name, room) == {"a", "b", "c"}
    assert not taken_adapters(found, name, None)


def test_estimates_have_all_places_in_use() -> None:
    found = fleet({"zipf": 1})
    group, lora = found.replicas[0], LoraOptions(2)
    model = step_time(group)
    longer = with_adapters(found, group, model)
    extra_s = longer.seconds(0, 0.0, 8, 800) - model.seconds(0, 0.0, 8, 800)
    assert extra_s == pytest.approx(lora.step_overhead_s + 2 * adapter_bytes(
        group.model, 16) / group.accelerator.bandwidth_bytes_per_s)
    plain = parse_fleet(FLEET)
    assert with_adapters(plain, plain.replicas[0], model) is model


def test_a_plan_assumes_room_where_none_is_stated() -> None:
    unsized = {"replicas": None}
    found = fleet({"zipf": 1}, **unsized)
    assert usual_lora(found, found.models[0]) == LoraOptions(3, 3, 16)
    assert all(group.lora == LoraOptions(3, 3, 16) for group in found.sizing.groups)
    (said,) = lora_assumptions(found)
    assert "at most 3 adapters in a batch and 3 in host memory, up to rank 16" in said
    assert "rank 16 for 1 adapters without one" in said
    stated = fleet({"zipf": 1}, variant={"lora": {"max_loras": 2}}, **unsized)
    assert usual_lora(stated, stated.models[0]) == LoraOptions(2)
    assert usual_lora(parse_fleet(FLEET), parse_fleet(FLEET).models[0]) is None


def test_stated_settings_are_not_assumed() -> None:
    found = fleet({"zipf": 1}, {"max_loras": 2, "step_overhead_s": 0.001})
    (said,) = lora_assumptions(found)
    assert said == ("adapters of llama-3-8b: rank 16 for 1 adapters without one "
                    "(replicas[].lora sets others)")
