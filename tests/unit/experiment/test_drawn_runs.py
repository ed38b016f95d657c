"""Runs of traffic that is not held are the runs of the same traffic in memory."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.core.request import Request
from penstock.experiment.clairvoyant import clairvoyant
from penstock.experiment.compare_scalers import compare_scalers
from penstock.experiment.run import run_fleet
from penstock.fleet import sources
from penstock.fleet.load import load_fleet
from penstock.fleet.sources import fleet_traffic, fleet_workload
from penstock.fleet.values import Fleet
from penstock.metrics.request_file import RequestWriter
from penstock.metrics.table import COLUMNS, RequestTable, concat
from penstock.sim import flusher
from penstock.sim.simulation import simulate
from penstock.workload.drawn import Drawn

TEXT = """
accelerators: [{name: h100-80gb, count: 8}]
models: [{name: llama-3.1-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, slo: {e2e_s: 120, percentile: 90}}
traffic:
  - {name: a, lengths: azure-2023-conv, rate_per_s: 6, duration_s: 200,
     mix: {chat: 0.5, batch: 0.5}}
  - {name: b, lengths: azure-2023-code, rate_per_s: 20, duration_s: 90, start_s: 60, mix: {chat: 1}}
run: {warmup_s: 15, seed: 3}
"""
BOUNDS = "min_replicas: 1, max_replicas: 6"
SCALED = TEXT + f"replicas: [{{count: 1, {BOUNDS}}}]\n" + (
    "scaling: {start_s: 30}\npolicies: {scale: penstock}\n")
FIXED = TEXT + "replicas: [{count: 2}]\n"
STEADY = """
accelerators: [{name: h100-80gb, count: 2}]
models: [{name: llama-3.1-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, slo: {e2e_s: 40000, percentile: 90}}
traffic:
  - {lengths: azure-2023-conv, rate_per_s: 4, duration_s: 2000, mix: {chat: 0.5, batch: 0.5}}
run: {seed: 3}
replicas: [{count: 2}]
"""
SHEDDING = TEXT + "replicas: [{count: 1}]\npolicies: {schedule: niyama}\n"


def fleet(tmp_path: Path, text: str) -> Fleet:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return load_fleet(path)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONG_REQUESTS", 100)
    monkeypatch.setattr("penstock.workload.arrivals.BLOCK_REQUESTS", 150)
    monkeypatch.setattr(flusher, "_FLUSH_REQUESTS", 40)
    monkeypatch.setattr(flusher, "_FLUSH_INSTANTS", 64)


@pytest.mark.parametrize("text", [SCALED, FIXED, SHEDDING])
@pytest.mark.usefixtures("small_blocks")
def test_summary_requests_and_replicas_are_equal(tmp_path: Path, text: str) -> None:
    one = fleet(tmp_path, text)
    traffic = fleet_traffic(one)
    assert isinstance(traffic, Drawn)
    held = run_fleet(one, fleet_workload(one), 3)
    drawn = run_fleet(one, traffic, 3, store=tmp_path / "requests.parquet")
    assert drawn.summary.document() == held.summary.document()
    assert len(drawn.result.table) == 0
    stored = concat(drawn.requests.blocks())
    for name in COLUMNS:
        if not name.endswith("_index"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(held.table, name), name)
    assert [replica.step_end_s.tolist() for replica in drawn.series.replicas] == \
        [replica.step_end_s.tolist() for replica in held.series.replicas]


@pytest.mark.usefixtures("small_blocks")
def test_policies_are_compared_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                            ) -> None:
    whole = fleet(tmp_path, SCALED)
    one = replace(whole, run=replace(whole.run, num_requests=500))
    drawn = compare_scalers({"penstock": one}, [3], lambda *_: None)[0]
    assert clairvoyant(one, fleet_workload(one, 3), 3) == drawn.bound
    monkeypatch.setattr(sources, "LONG_REQUESTS", 10**9)
    held = compare_scalers({"penstock": one}, [3], lambda *_: None)[0]
    assert drawn.document() == held.document()
    np.testing.assert_array_equal(drawn.demand.arrivals_per_s, held.demand.arrivals_per_s)


@pytest.mark.usefixtures("small_blocks")
def test_confidential_requests_are_held(tmp_path: Path) -> None:
    plain = fleet(tmp_path, FIXED)
    secret = replace(plain, service_classes=tuple(
        replace(one, confidential=True) for one in plain.service_classes))
    assert not isinstance(fleet_traffic(secret), Drawn)


def _held() -> tuple[int, int]:
    """Requests, and rows of tables, that the process holds beside frozen objects."""
    found = gc.get_objects()
    return (sum(isinstance(one, Request) for one in found),
            sum(len(one) for one in found if isinstance(one, RequestTable)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("policy", [pytest.param("penstock", marks=pytest.mark.long), "sarathi"])
def test_what_a_run_holds_does_not_grow_with_its_requests(
        tmp_path: Path, policy: str) -> None:
    """Turns are faster than the pace asks for, and deadlines are hours away."""
    text = STEADY + f"policies: {{schedule: {policy}}}\n"
    def most(num_requests: int) -> tuple[int, int]:
        one = fleet(tmp_path, text.replace("seed: 3", f"seed: 3, num_requests: {num_requests}"))
        held: list[tuple[int, int]] = []
        gc.collect()
        gc.freeze()  # what other tests left
        try:
            with RequestWriter(tmp_path / f"{num_requests}.parquet", rows_per_group=100) as writer:
                def over(table: RequestTable) -> None:
                    writer.write(table)
                    held.append(_held())

                simulate(one, fleet_traffic(one), on_over=over)
        finally:
            gc.unfreeze()
        assert len(held) >= num_requests // 200
        requests, rows = map(max, zip(*held, strict=True))
        return requests, rows

    few, many = most(600), most(2400)
    assert many[0] < 2 * few[0] < 1200
    assert many[1] <= few[1] + 150
