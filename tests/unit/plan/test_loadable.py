"""The fleet file that a plan writes can be read, and holds what is planned."""

from dataclasses import replace

import pytest

from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.write import to_yaml
from penstock.plan.loadable import planned_yaml, served_only
from support.small_plans import BATCH, CHAT, TWO_MODELS, cards, fleet, planned, traffic

NEVER = {"name": "chat", "slo": {"ttft_s": 1e-4}}


def test_a_plan_that_serves_all_is_written_as_it_is():
    plan = planned(plan={"pooling": "class"})
    assert planned_yaml(plan) == to_yaml(plan.fleet)
    assert parse_fleet(planned_yaml(plan)).replicas == plan.fleet.replicas


def test_a_class_that_is_left_out_is_left_out_of_the_file():
    """Such a file did not load: its replicas left a class of its traffic to nobody."""
    plan = planned(service_classes=[NEVER, BATCH], plan={"pooling": "class"})
    text = planned_yaml(plan)
    assert text.startswith("# Left out, as the plan serves none of it: llama-3-8b/chat;")
    found = parse_fleet(text)
    assert found.replicas == plan.fleet.replicas
    spec, = found.traffic
    assert spec.mix == {"batch": 1.0}
    assert spec.rate_per_s == pytest.approx(0.4 * 5)
    assert spec.num_requests == 16
    workload = fleet_workload(found, found.run.seed)
    assert {workload.service_classes[i] for i in workload.class_index} == {"batch"}


def test_a_model_that_is_left_out_is_left_out_of_the_file():
    plan = planned(traffic(model="llama-3-8b", mix={"batch": 1}),
                   traffic(model="qwen2.5-7b", mix={"chat": 1}),
                   models=TWO_MODELS, service_classes=[NEVER, BATCH])
    text = planned_yaml(plan)
    assert text.startswith("# Left out, as the plan serves none of it: qwen2.5-7b;")
    assert [spec.model for spec in parse_fleet(text).traffic] == ["llama-3-8b"]


def test_where_nothing_is_served_the_file_is_as_before_and_says_so():
    plan = planned(traffic(mix={"chat": 1}), service_classes=[NEVER, BATCH])
    text = planned_yaml(plan)
    assert text.startswith("# No replicas")
    assert parse_fleet(text) == parse_fleet(to_yaml(plan.before))


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "log.csv"
    rows = [f"{i * 0.2:.1f},400,40,{'chat' if i % 2 else 'batch'}" for i in range(40)]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens,service_class", *rows]))
    return {"trace": {"file": str(path)}}


def test_classes_that_a_trace_names_and_no_row_has_do_not_keep_the_file_from_loading(trace):
    """With pooling by class, replicas take the classes with traffic; the third is nobody's."""
    plan = planned(trace, service_classes=[CHAT, BATCH, {"name": "rare"}],
                   plan={"pooling": "class"})
    found = parse_fleet(planned_yaml(plan))
    assert [c.name for c in found.service_classes] == ["chat", "batch"]
    assert len(fleet_workload(found, 0)) == 40


def test_rows_of_a_trace_cannot_be_left_out_and_the_file_says_so(trace):
    plan = planned(trace, service_classes=[NEVER, BATCH], plan={"pooling": "class"})
    text = planned_yaml(plan)
    assert "# Rows of llama-3-8b/chat are still in the trace of trace: remove them" in text
    assert [c.name for c in parse_fleet(text).service_classes] == ["batch"]


def test_groups_to_size_with_lose_the_class_too():
    sections = {"sizing": {"groups": [{"classes": ["chat"]}, {"classes": ["batch"]}]},
                "accelerators": cards(a100_80gb=8)}
    whole = fleet(traffic(), **sections)
    served = [group for group in planned(traffic(), plan={"pooling": "class"}).fleet.replicas
              if group.service_classes == ("batch",)]
    own = replace(whole.traffic[0], mix={})
    found = served_only(replace(whole, traffic=(own,), replicas=tuple(served)))
    assert [group.service_classes for group in found.sizing.groups] == [("batch",)]
