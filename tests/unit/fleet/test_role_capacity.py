"""Rates of replicas with roles, in requests of the whole demand."""

from dataclasses import replace

import pytest

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.role_capacity import capacity_of
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.policy.scale.protocol import Load, ReplicaRate

TEXT = """\
name: roles
accelerators: [{{name: h100-80gb, count: 16}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 1, itl_s: 0.03, itl: strict, percentile: 95}}}}]
traffic:
  - lengths: {{prompt: {{fixed: 4000}}, output: {{fixed: 100}}}}
    rate_per_s: {rate}
    num_requests: 400
replicas: [{{role: prefill, count: {prefills}}}, {{role: decode, count: {decodes}}}]
disaggregation: {{transfer: {{gb_per_s: 50}}, min_prompt_tokens: {least}}}
"""
LENGTHS = ((4000, 100),)


def fleet(rate: float = 1.0, prefills: int = 1, decodes: int = 1, least: int = 0) -> Fleet:
    return parse_fleet(TEXT.format(rate=rate, prefills=prefills, decodes=decodes, least=least))


def rates(of: Fleet, *lengths: tuple[int, int]) -> tuple[ReplicaRate, ReplicaRate]:
    prefill, decode = (capacity_of(of, group, step_time)({"chat": Load(1.0, lengths or LENGTHS)})
                       for group in of.replicas)
    assert 0.0 < prefill.in_time_per_s <= prefill.saturation_per_s
    assert 0.0 < decode.in_time_per_s <= decode.saturation_per_s
    return prefill, decode


def attainment(of: Fleet) -> float:
    return run_fleet(of, fleet_workload(of, 1), 1).summary.overall.attainment or 0.0


@pytest.mark.parametrize(("role", "others"), [(0, {"decodes": 8}), (1, {"prefills": 8})])
def test_a_role_carries_its_rate_and_not_much_more(role, others) -> None:
    found = rates(fleet())[role]
    assert attainment(fleet(0.9 * found.in_time_per_s, **others)) >= 0.95
    assert attainment(fleet(1.6 * found.saturation_per_s, **others)) < 0.95


def test_targets_between_tokens_do_not_bind_prompts() -> None:
    slow = fleet()
    tight = replace(slow, service_classes=tuple(
        replace(one, slo=replace(one.slo, itl_s=0.009)) for one in slow.service_classes))
    (prefill, decode), (same, fewer) = rates(slow), rates(tight)
    assert same == prefill
    assert fewer.in_time_per_s < decode.in_time_per_s


def test_prompts_that_stay_are_work_of_the_replicas_that_decode() -> None:
    both = ((4000, 100), (200, 100))
    (prefill, decode), (divided, beside) = rates(fleet(), *both), rates(fleet(least=1000), *both)
    alone = rates(fleet(), (4000, 100))[0]
    assert divided.saturation_per_s == pytest.approx(2.0 * alone.saturation_per_s, rel=0.05)
    assert prefill.saturation_per_s < divided.saturation_per_s
    assert beside.saturation_per_s < decode.saturation_per_s


def test_without_prompts_to_move_no_replica_has_a_rate() -> None:
    of = fleet(least=9000)
    assert capacity_of(of, of.replicas[0], step_time)({"chat": Load(1.0, LENGTHS)}) == (0, 0, 0, 0)
