"""Laws of scaled fleets whose replicas fail, whose starts fail and whose metrics go missing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.write import to_yaml
from support.scaled_examples import examples

FLEET = """\
name: faulty
accelerators: [{{name: a100-80gb, count: 8, price_per_hour: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 4, itl_s: 0.05}}}}]
traffic:
  - lengths: {{prompt: {{shares: [0, 1], tokens: [10, 3000]}},
              output: {{shares: [0, 1], tokens: [1, 120]}}}}
    rate_per_s: {rate}
    num_requests: {num}
  - {{lengths: {{prompt: {{fixed: 300}}, output: {{fixed: 40}}}}, rate_per_s: 30, num_requests: 60,
     start_s: 20}}
replicas:
  - {{count: 2, min_replicas: {floor}, max_replicas: 5}}
  - {{count: 1, min_replicas: 0, max_replicas: 3,
     spot: {{reclaims_per_hour: {reclaims}, notice_s: {notice}, price_per_hour: 1}}}}
engine: {engine}
scaling:
  start_s: {start}
  start_spread: 0.5
  hold_s: {hold}
  faults:
    failed_start_share: {failed}
    failures_per_hour: {failures}
    blackouts: [{{from_s: {dark}, for_s: 15}}]
    controller_restarts_s: [{restart}]
policies: {{schedule: {schedule}, scale: {scale}}}
run: {{seed: {seed}}}
"""
SCALERS = ("penstock", "{name: hpa, target: 8}", "keda", "{name: kpa, target: 8}", "ray",
           "{name: aibrix-apa, target: 8}", "llm-d-slo", "wva-tokens", "wva-percent", "block",
           "llm-d-tokens", "inferno", "dynamo", "static")
fleets = st.fixed_dictionaries({
    "rate": st.sampled_from([1, 8]), "num": st.integers(1, 80), "floor": st.integers(0, 2),
    "reclaims": st.sampled_from([0, 100, 1000]), "notice": st.sampled_from([0, 2, 30]),
    "start": st.sampled_from([0.5, 5]), "hold": st.sampled_from([2, 60]),
    "failed": st.sampled_from([0, 0.5, 1]), "failures": st.sampled_from([0, 60, 600]),
    "dark": st.integers(0, 60), "restart": st.integers(0, 60),
    "engine": st.sampled_from(["{kv_tokens: 20000}", "{name: vllm}"]),
    "schedule": st.sampled_from(["sarathi", "penstock"]), "scale": st.sampled_from(SCALERS),
    "seed": st.integers(0, 5)})


def ran(one: dict[str, object]) -> Run:
    fleet = parse_fleet(FLEET.format(**one))
    return run_fleet(fleet, fleet_workload(fleet), int(str(one["seed"])))


def told(found: Run) -> tuple[object, ...]:
    scaling = found.summary.scaling
    return (str(found.table.last_token_s.tolist()), found.table.status.tolist(), scaling.changes,
            scaling.failures, scaling.reclaims, scaling.failed_starts, scaling.cost)


@examples(150)
@given(fleets)
def test_every_request_ends_once_with_a_reason(one):
    found = ran(one)
    table, reasons = found.table, found.result.reasons
    assert len(table) == one["num"] + 60
    assert int(table.finished.sum()) + sum(reasons.values()) == len(table)
    assert set(reasons) <= {"no replica was ready in time", "the replica failed",
                            "its deadline cannot be met"}
    answers = fleet_workload(found.fleet).output_tokens
    assert (table.output_tokens[table.finished] == answers[table.finished]).all()
    times = [getattr(table, f"{name}_s")[table.finished]
             for name in ("arrival", "first_scheduled", "first_token", "last_token")]
    assert all((before <= after + 1e-9).all() for before, after in pairwise(times))
    if not one["failures"] and not one["reclaims"]:
        assert "the replica failed" not in reasons
        assert found.summary.scaling.failures == found.summary.scaling.reclaims == 0


@examples(60)
@given(fleets)
def test_the_same_seed_gives_the_same_faults(one):
    assert told(ran(one)) == told(ran(one))


@examples(100)
@given(fleets)
def test_counts_stay_within_bounds_and_accelerators(one):
    scaling = ran(one).summary.scaling
    present = {0: 0, 1: 0}
    for change in scaling.changes:
        present[change.group] = change.held
        assert sum(present.values()) <= 8
        assert (one["floor"], 0)[change.group] <= change.target <= (5, 3)[change.group]
    first, spot = scaling.groups
    assert scaling.cost == pytest.approx(4 * first.gpu_hours + 1 * spot.gpu_hours)
    if one["failed"] == 1:  # a start fails, is taken back by a smaller target, or is under way
        assert scaling.failed_starts <= scaling.starts <= scaling.failed_starts + scaling.stops + 8


@examples(60)
@given(fleets)
def test_no_scaler_shrinks_without_metrics(one):
    found = ran({**one, "failures": 0, "reclaims": 0})
    dark_s = one["dark"]
    for choice in found.summary.scaling.decisions:
        if dark_s <= choice.at_s < dark_s + 15 and one["scale"] != "inferno":
            assert all(after >= before for before, after in zip(
                choice.before, choice.targets, strict=True)), choice


@examples(40)
@given(fleets)
def test_a_written_fleet_has_the_same_faults(one):
    fleet = parse_fleet(FLEET.format(**one))
    again = parse_fleet(to_yaml(fleet))
    assert again.scaling == fleet.scaling
    assert [group.spot for group in again.replicas] == [group.spot for group in fleet.replicas]


def test_failures_come_at_the_stated_rate():
    one = {"rate": 8, "num": 12_000, "floor": 2, "reclaims": 0, "notice": 0, "start": 0.5,
           "hold": 600, "failed": 0.25, "failures": 200, "dark": 0, "restart": 0,
           "engine": "{kv_tokens: 20000}", "schedule": "sarathi", "scale": "static", "seed": 1}
    found = ran(one)
    scaling = found.summary.scaling
    served_h = scaling.mean_replicas * found.result.end_s / 3600
    assert scaling.failures == pytest.approx(200 * served_h, rel=0.2)
    assert scaling.failed_starts / scaling.starts == pytest.approx(0.25, rel=0.3)
    assert np.isfinite(found.table.last_token_s[found.table.finished]).all()
