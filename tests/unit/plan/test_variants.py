"""Which kinds of replica a plan considers, and the reasons for those that it does not."""

import pytest

from penstock.fleet.capacity import step_tokens
from penstock.plan.propose import current_groups
from penstock.plan.variants import longest_request_tokens, variant_name, variants_of
from penstock.policy.schedule.options import PRESETS
from support.small_plans import cards, fleet


def variants(longest=440, running=False, **sections):
    """(variants, reasons) by name."""
    found = fleet(**sections)
    groups = [g for g in found.replicas if g.model is found.models[0].spec] if running else ()
    kept, left = variants_of(found, found.models[0], longest, groups)
    assert len({v.name for v in kept} | {v.name for v in left}) == len(kept) + len(left)
    return {v.name: v for v in kept}, {v.name: v.reason for v in left}


def test_degrees_are_powers_of_two_within_a_node():
    kept, left = variants(accelerators=cards(a100_80gb=None))
    assert list(kept) == ["a100-80gb-bf16", "a100-80gb-tp2-bf16", "a100-80gb-tp4-bf16",
                          "a100-80gb-tp8-bf16"]
    assert not left


def test_cost_and_power_are_of_all_accelerators():
    kept, _ = variants(accelerators=[{"name": "a100-80gb", "price_per_hour": 3.0}],
                       plan={"tensor": [1, 2], "pipeline": [1, 2]})
    one, four = kept["a100-80gb-bf16"], kept["a100-80gb-tp2-pp2-bf16"]
    assert (one.cost_per_hour, four.cost_per_hour) == (3.0, 12.0)
    assert four.power_w == 4 * one.power_w > 0
    assert four.group.num_accelerators == 4
    assert four.kv_tokens > 4 * one.kv_tokens


def test_every_combination_that_is_asked_for_is_there():
    kept, left = variants(
        accelerators=cards(h100_80gb=None, l4=None),
        models=[{"name": "llama-3-8b", "precisions": ["bf16", "fp8"]}],
        plan={"tensor": [1, 2], "kv_precisions": ["bf16", "fp8"], "step_tokens": [512, 1024]})
    assert len(kept) + len(left) == 2 * 2 * 2 * 2 * 2
    assert "h100-80gb-tp2-fp8-kv-fp8-step1024" in kept
    assert "l4-bf16-step512" in {**kept, **left}


def test_the_order_of_precisions_changes_no_variant():
    kept = [variants(models=[{"name": "llama-3-8b", "precisions": order}])[0]
            for order in (["bf16", "int8"], ["int8", "bf16"])]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(("sections", "name", "reason"), [
    ({}, "a100-80gb-tp8-bf16", "a replica needs 8 a100-80gb; the fleet has 4"),
    ({"plan": {"tensor": [1000]}}, "a100-80gb-tp1000-bf16", "more than the 8 accelerators"),
    ({"plan": {"pipeline": [1000]}}, "a100-80gb-pp1000-bf16", "more than the 32 layers"),
    ({"accelerators": cards(t4=None)}, "t4-bf16", "does not fit"),
    ({"engine": {"kv_tokens": 400}}, "a100-80gb-bf16", "440 tokens is longer than the KV cache"),
])
def test_what_is_left_out_is_left_out_for_a_reason(sections, name, reason):
    kept, left = variants(**sections)
    assert name not in kept
    assert reason in left[name]


@pytest.mark.parametrize(("kv_tokens", "takes"), [(439, False), (440, False), (447, False),
                                                  (448, True)])
def test_a_cache_holds_whole_blocks(kv_tokens, takes):
    """440 tokens take 28 blocks of 16; a cache of 447 has 27, and its scheduler refuses."""
    kept, _ = variants(engine={"kv_tokens": kv_tokens})
    assert bool(kept) is takes


def test_blocks_that_the_scheduler_keeps_free_are_not_for_requests():
    found = fleet(policies={"schedule": {"name": "penstock", "kv_watermark": 0.3}})
    kept, _ = variants_of(found, found.models[0], 440)
    assert longest_request_tokens(found, kept[0].group, 1600) == 1120


def test_stated_step_times_and_schedules_are_taken_over():
    stated = {"step_time": {"kind": "roofline", "factor": 3.0},
              "schedule": {"name": "sarathi", "chunk_tokens": 256}}
    kept, _ = variants(replicas=[{"count": 2, **stated}])
    own = kept["a100-80gb-bf16-step256"].group
    assert own.step_time == {"kind": "roofline", "factor": 3.0}
    assert own.schedule.policy == "sarathi"
    assert (own.count, own.service_classes) == (1, None)
    assert kept["a100-80gb-tp2-bf16"].group.step_time is None
    sized, _ = variants(sizing={"groups": [stated]})
    assert sized["a100-80gb-bf16-step256"] == kept["a100-80gb-bf16-step256"]


def test_two_schedules_of_one_kind_are_two_variants():
    kept, _ = variants(replicas=[{"schedule": {"name": "sarathi", "chunk_tokens": 256}}, {}])
    assert {"a100-80gb-bf16-step256", "a100-80gb-bf16"} <= set(kept)


def test_what_runs_is_considered_whatever_the_options_say():
    running = [{"parallelism": {"pipeline": 2}, "kv_precision": "fp8", "count": 2}]
    name = "h100-80gb-pp2-bf16-kv-fp8"
    sections = {"accelerators": cards(h100_80gb=8), "replicas": running,
                "plan": {"tensor": [2], "step_tokens": [512]}}
    assert name not in variants(**sections)[0]
    kept, _ = variants(running=True, **sections)
    assert list(kept) == ["h100-80gb-tp2-bf16-step512", name]
    assert kept[name].group.count == 1


def test_step_budgets_are_chunks_or_bounds_as_the_schedule_has_it():
    kept, _ = variants(policies={"schedule": "sarathi"}, plan={"step_tokens": [64]})
    assert kept["a100-80gb-bf16-step64"].group.schedule.chunk_tokens == 64
    kept, _ = variants(plan={"step_tokens": [64]})
    assert kept["a100-80gb-bf16-step64"].group.schedule.max_step_tokens == 64
    assert step_tokens(PRESETS["sarathi"]) == PRESETS["sarathi"].chunk_tokens
    assert step_tokens(PRESETS["penstock"]) == PRESETS["penstock"].max_step_tokens


def test_a_name_says_what_is_unusual():
    found = fleet(accelerators=cards(h100_80gb=8), replicas=[
        {}, {"parallelism": {"tensor": 2}, "kv_precision": "fp8"}])
    assert [variant_name(group) for group in found.replicas] == [
        "h100-80gb-bf16", "h100-80gb-tp2-bf16-kv-fp8"]


def test_current_groups_are_those_of_the_model():
    found = fleet(replicas=[{"count": 1, "service_classes": ["chat"]},
                            {"count": 1, "service_classes": ["batch"]}])
    from penstock.fleet.sources import fleet_workload
    from penstock.plan.demands import demands_of

    demand, = demands_of(found, (fleet_workload(found),))
    assert current_groups(found, demand) == list(found.replicas)


def test_heads_are_shared_out_evenly():
    kept, left = variants(plan={"tensor": [3, 4]})
    assert list(kept) == ["a100-80gb-tp4-bf16"]
    assert left["a100-80gb-tp3-bf16"] == (
        "3 ranks do not divide the 32 attention heads of llama-3-8b")


def test_a_feed_forward_is_shared_out_evenly():
    kept, left = variants(models=[{"name": "llama-2-13b"}], plan={"tensor": [4, 5]})
    assert list(kept) == ["a100-80gb-tp4-bf16"]
    assert left["a100-80gb-tp5-bf16"] == (
        "5 ranks do not divide the feed-forward of 13824 of llama-2-13b")
