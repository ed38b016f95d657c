"""The ``plan`` section: read, resolved, written back; and fleets that only a plan can help."""

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.values import PlanOptions
from penstock.fleet.write import replicas_section, resolved, to_yaml
from support.small_plans import cards, fleet, lengths, traffic

ALL = {"pooling": "class", "mixed": False, "tensor": [1, 4], "pipeline": [1, 2],
       "kv_precisions": ["bf16", "fp8"], "step_tokens": [256, 2048], "keep_accelerators": True,
       "max_cost_per_hour": 50.0, "max_power_w": 9000.0, "start_cost": 0.5, "stop_cost": 0.25,
       "num_seeds": 3, "min_replicas": 2}


def test_left_out_is_the_default():
    assert fleet().plan == PlanOptions()
    assert fleet(plan={}).plan == PlanOptions()
    assert fleet(plan={"tensor": None, "max_power_w": None}).plan == PlanOptions()


def test_what_is_given_is_taken_over():
    assert fleet(plan=ALL).plan == PlanOptions(
        "class", False, (1, 4), (1, 2), ("bf16", "fp8"), (256, 2048), True, 50.0, 9000.0, 0.5,
        0.25, 3, 2)


@pytest.mark.parametrize("section", [{}, ALL, {"tensor": [2]}, {"max_power_w": 1e6}])
def test_it_is_written_back_as_it_was_read(section):
    found = fleet(plan=section)
    again = parse_fleet(to_yaml(found))
    assert again.plan == found.plan
    assert again == found
    assert section.items() <= resolved(found)["plan"].items()


def test_replicas_are_written_without_defaults_and_read_back():
    found = fleet(accelerators=cards(h100_80gb=8), replicas=[
        {"count": 2, "parallelism": {"tensor": 2}, "kv_precision": "fp8",
         "schedule": {"name": "sarathi", "chunk_tokens": 256}, "service_classes": ["chat"]},
        {"service_classes": ["batch"]}])
    section = replicas_section(found)
    assert "parallelism" not in section[1]
    assert "schedule" not in section[1]
    assert section[0]["parallelism"] == {"tensor": 2, "pipeline": 1, "data": 1, "expert": 1}
    assert fleet(accelerators=cards(h100_80gb=8), replicas=section).replicas == found.replicas
    assert yaml.safe_load(yaml.safe_dump(section)) == section


@pytest.mark.parametrize("section", [{"tensor": []}, {"pipeline": [2, 2]}, {"step_tokens": []},
                                     {"kv_precisions": ["fp8", "fp8"]}])
def test_empty_and_repeated_lists_are_refused(section):
    with pytest.raises(InputError, match=r"plan\.\w+.*(empty list|appears twice)"):
        fleet(plan=section)


def test_a_model_that_no_plain_replica_holds_may_still_be_planned_for():
    found = fleet(models=[{"name": "llama-3.1-405b", "precisions": ["bf16", "int8"]}])
    assert (found.sizing.groups, found.replicas) == ((), ())
    with pytest.raises(InputError, match=r"accelerators: model does not fit: llama-3.1-405b"):
        found.sizing.kinds()
    with pytest.raises(InputError, match="does not fit"):
        fleet(models=[{"name": "llama-3.1-405b"}], sizing={"max_replicas": 4})
    with pytest.raises(InputError, match="does not fit"):
        fleet(models=[{"name": "llama-3.1-405b"}], variant={"precision": "bf16"})


def test_a_prompt_too_long_for_the_first_card_is_left_to_the_plan():
    long = {"models": [{"name": "llama-3-8b", "max_context_tokens": 65_536}],
            "accelerators": cards(l4=None, a100_80gb=None)}
    assert fleet(traffic(lengths=lengths(60_000, 10)), **long).replicas == ()
    with pytest.raises(InputError, match="longer than the KV cache"):
        fleet(traffic(lengths=lengths(60_000, 10)), sizing={"max_replicas": 4}, **long)
