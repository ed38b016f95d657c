"""The sales line: the same fleet with Penstock's scheduler inside its engine."""

import pytest

from penstock.fleet.load import parse_fleet
from penstock.plan.inside import inside_document, inside_line, with_ours_inside

FLEET = """
accelerators: [{{name: h100-80gb, count: 8}}]
models: [{{name: llama-3.1-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 1, itl_s: 0.05}}}}]
traffic: [{{name: t, lengths: azure-2023-conv, rate_per_s: 5, num_requests: 40}}]
engine: {engine}
"""


def plan(cost: float, count: int, headroom: float | None, served: bool = True):
    return {"demands": [{"name": "d", "replicas": {"h100": count}, "headroom": headroom}],
            "served_in_full": served, "cost_per_hour": cost, "power_w": 700.0 * count,
            "unserved": [] if served else ["d"]}


def test_only_the_scheduler_differs_inside() -> None:
    fleet = parse_fleet(FLEET.format(engine="{name: vllm, version: '0.19.0', max_num_seqs: 64}"))
    ours = with_ours_inside(fleet)
    assert ours is not None
    assert (ours.engine.name, ours.engine.version) == ("penstock-in-vllm", "0.19.0")
    assert (ours.policies.schedule.policy, ours.policies.schedule.max_num_seqs) == ("penstock", 64)
    assert ours.sizing.groups[0].step_time == fleet.sizing.groups[0].step_time
    assert ours.traffic == fleet.traffic


@pytest.mark.parametrize("engine", ["{name: penstock-in-sglang}",
                                    "{}\npolicies: {schedule: penstock}"])
def test_there_is_nothing_to_sell_where_ours_runs(engine: str) -> None:
    assert with_ours_inside(parse_fleet(FLEET.format(engine=engine))) is None


def test_the_line_says_replicas_price_and_headroom() -> None:
    found = inside_document(plan(24.6, 3, 0.1), plan(16.4, 2, 0.3), "penstock-in-vllm")
    assert (found["saves_per_hour"], found["headroom"]) == (pytest.approx(8.2), 0.3)
    assert inside_line(found) == (
        "With Penstock's scheduler inside vllm: 2 replicas for $16.40 an hour, $8.20 an hour less, "
        "headroom +30 %.")
    same = inside_document(plan(8.2, 1, None), plan(8.2, 1, None), "penstock-in-vllm")
    assert inside_line(same).endswith("inside vllm: 1 replica for $8.20 an hour.")
    short = inside_document(plan(8.2, 1, None), plan(8.2, 1, None, served=False), "penstock-in-x")
    assert "not served in full either" in inside_line(short)
