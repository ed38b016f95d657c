"""The plan of a Fleet as its status and as a part of its file."""

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes.planned import (
    Plan,
    check_plannable,
    is_planned,
    plan_of,
    planned_spec,
    running_groups,
    text_of,
)
from support import cluster_objects as cluster

SPEC = yaml.safe_load(cluster.PLANNED)
GROUP = {"model": "llama-3.1-8b", "accelerator": "h100-80gb", "count": 3, "precision": "bf16",
         "kv_precision": "bf16", "parallelism": {"tensor": 2}, "variant": "h100-80gb-tp2-bf16",
         "costPerHour": 24.0}
PLAN = Plan(4, [GROUP], [{"name": "llama-3.1-8b"}], 24.0, 20.0)


def drawn(spec):
    return parse_fleet(text_of(spec), "chat", to_plan=True)


def test_a_status_keeps_the_plan():
    status = {"plan": PLAN.status(), "boundCostPerHour": PLAN.bound_per_hour}
    assert plan_of(status) == PLAN
    assert PLAN.num_replicas == 3
    assert plan_of({}) is None
    assert plan_of({"plan": {"groups": []}}) is None


def test_a_planned_file_is_a_fleet_file():
    assert is_planned(SPEC)
    spec = planned_spec(SPEC, drawn(SPEC), [GROUP])
    assert not is_planned(spec)
    group, = parse_fleet(text_of(spec), "chat").replicas
    assert (group.count, group.parallelism.tensor, group.max_replicas) == (3, 2, None)
    assert group.kubernetes.name.startswith("h100-80gb-tp2-bf16-")


def test_names_are_those_of_the_file():
    spec = yaml.safe_load(cluster.PLANNED.replace("name: h100-80gb,", "name: H100,"))
    assert planned_spec(spec, drawn(spec), [GROUP])["replicas"][0]["accelerator"] == "H100"
    parse_fleet(text_of(planned_spec(spec, drawn(spec), [GROUP])), "chat")


@pytest.mark.parametrize(("more", "bounds"), [
    ("", (1, 64)), ("plan: {min_replicas: 2}\nsizing: {max_replicas: 9}\n", (2, 9)),
    ("plan: {min_replicas: 5}\nsizing: {max_replicas: 2}\n", (3, 3))])
def test_a_policy_has_the_bounds_of_the_plan_and_of_the_size(more, bounds):
    spec = yaml.safe_load(cluster.PLANNED + more + "policies: {scale: penstock}\n"
                          "scaling: {start_s: 9}\n")
    group, = parse_fleet(text_of(planned_spec(spec, drawn(spec), [GROUP])), "chat").replicas
    assert (group.min_replicas, group.max_replicas) == bounds


def test_groups_that_run_are_those_whose_model_and_accelerator_the_file_still_has():
    other = {**GROUP, "accelerator": "l4"}
    assert running_groups(PLAN._replace(groups=[GROUP, other]), drawn(SPEC)) == [GROUP]


def test_every_model_needs_an_entry_on_every_accelerator():
    check_plannable(drawn(SPEC))
    spec = yaml.safe_load(cluster.PLANNED.replace("[{create", "[{accelerator: l40s, create"))
    with pytest.raises(InputError, match=r"no entry fits llama-3\.1-8b on h100-80gb"):
        check_plannable(drawn(spec))


def test_a_text_keeps_every_character():
    spec = {**SPEC, "models": [{"name": "llama-3.1-8b"}], "name": "fleet-\U0001f600-\u00e4"}
    assert drawn(spec).name == "fleet-\U0001f600-\u00e4"
