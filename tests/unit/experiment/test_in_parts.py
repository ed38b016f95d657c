"""A simulation in parts has the results of the whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.experiment import in_parts
from penstock.experiment.run import Run, run_fleet
from penstock.experiment.workers import ALONE
from penstock.fleet import sources
from penstock.fleet.load import load_fleet
from penstock.fleet.sources import fleet_traffic
from penstock.fleet.values import Fleet
from penstock.metrics.request_file import RequestWriter, read_requests
from penstock.metrics.table import COLUMNS
from penstock.sim.parts import parts_of

TEXT = """
accelerators: [{name: h100-80gb, count: 8}]
models: [{name: llama-3.1-8b}, {name: qwen3-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, slo: {e2e_s: 120, percentile: 90}}
traffic:
  - {name: a, model: llama-3.1-8b, lengths: azure-2023-conv, rate_per_s: 9, duration_s: 60,
     mix: {chat: 0.5, batch: 0.5}}
  - {name: b, model: qwen3-8b, lengths: azure-2023-code, rate_per_s: 30, duration_s: 30,
     start_s: 20, mix: {chat: 1}}
run: {warmup_s: 5, seed: 3}
replicas:
  - {model: llama-3.1-8b, count: 2, service_classes: [chat]}
  - {model: llama-3.1-8b, count: 1, service_classes: [batch]}
  - {model: qwen3-8b, count: 2}
"""


def fleet(tmp_path: Path, *changes: tuple[str, str], route: str = "round_robin") -> Fleet:
    text = TEXT + f"policies: {{route: {route}}}\n"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return load_fleet(path)


def owners(of: Fleet, most: int) -> list[tuple[int, ...]]:
    found = parts_of(of, fleet_traffic(of), most)
    assert [one.number for one in found] == list(range(len(found)))
    return [one.owners for one in found]


def test_a_blind_router_lets_every_replica_be_apart(tmp_path: Path) -> None:
    assert owners(fleet(tmp_path), 2) == [(0, 1, 0, 1, 0)] * 2
    assert owners(fleet(tmp_path), 9) == [(0, 1, 2, 3, 4)] * 5


def test_replicas_of_the_same_requests_stay_together(tmp_path: Path) -> None:
    assert owners(fleet(tmp_path, route="least_loaded"), 9) == [(0, 0, 2, 1, 1)] * 3
    assert owners(fleet(tmp_path, route="two_choices"), 2) == [(0, 0, 0, 1, 1)] * 2
    every = ("service_classes: [batch]", "service_classes: [batch, chat]")
    assert owners(fleet(tmp_path, every, route="least_loaded"), 9) == [(0, 0, 0, 1, 1)] * 2


@pytest.mark.parametrize(("route", "changes"), [
    ("joint", ()), ("prefix_aware", ()), ("predictive", ()),
    ("round_robin", (("{name: qwen3-8b}", "{name: qwen3-8b, adapters: [{name: sql}]}"),
                     ("{model: qwen3-8b, count: 2}",
                      "{model: qwen3-8b, count: 2, lora: {max_loras: 2}}"))),
    ("least_loaded", (("model: qwen3-8b, lengths", "model: auto, lengths"),)),
    ("round_robin", (("route: round_robin", "route: round_robin, explore: 0.1"),)),
    ("round_robin", (("route: round_robin", "route: round_robin, admit: feasible"),)),
    ("round_robin", (("rate_per_s: 9, duration_s: 60", "arrivals: {name: closed, clients: 4}"),)),
    ("round_robin", (("{model: qwen3-8b, count: 2}",
                      "{model: qwen3-8b, count: 1, min_replicas: 1, max_replicas: 2}"),
                     ("route: round_robin", "route: round_robin, scale: penstock"),
                     ("run:", "scaling: {start_s: 30}\nrun:"))),
])
def test_what_connects_replicas_keeps_them_together(tmp_path: Path, route: str,
                                                    changes: tuple[tuple[str, str], ...]) -> None:
    assert owners(fleet(tmp_path, *changes, route=route), 4) == []


def results(run: Run) -> tuple[object, dict[str, np.ndarray], list[np.ndarray]]:
    table = run.table
    series = [column for replica in run.series.replicas
              for column in (replica.step_end_s, replica.decode_seqs, replica.kv_used_tokens)]
    return (run.summary.document(), {name: getattr(table, name) for name in COLUMNS},
            [*series, run.result.busy_s])


@pytest.fixture
def short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_parts, "LEAST_REQUESTS", 100)


def same(one: Run, other: Run) -> None:
    (summary, rows, series), (summary_2, rows_2, series_2) = results(one), results(other)
    assert summary == summary_2
    for name in COLUMNS:
        np.testing.assert_array_equal(rows[name], rows_2[name], name)
    for column, column_2 in zip(series, series_2, strict=True):
        np.testing.assert_array_equal(column, column_2)


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize("drain_s", ["null", "5"])
@pytest.mark.parametrize("route", ["round_robin", "random", "least_loaded", "two_choices"])
def test_parts_together_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      route: str, drain_s: str) -> None:
    monkeypatch.setattr(in_parts, "Cores", lambda num: ALONE)
    of = fleet(tmp_path, ("seed: 3", f"seed: 3, drain_s: {drain_s}"), route=route)
    traffic = fleet_traffic(of)
    same(run_fleet(of, traffic, 3), run_fleet(of, traffic, 3, jobs=3))


@pytest.mark.usefixtures("short_ones")
def test_refused_requests_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_parts, "Cores", lambda num: ALONE)
    of = fleet(tmp_path)
    traffic = fleet_traffic(of)
    of = replace(of, replicas=(*of.replicas[:2], replace(of.replicas[2],
                                                         service_classes=("batch",))))
    whole = run_fleet(of, traffic, 3)
    assert whole.summary.refusals[0].num_requests > 100
    same(whole, run_fleet(of, traffic, 3, jobs=2))


@pytest.mark.usefixtures("short_ones")
def test_traffic_that_is_not_held_has_the_same_file(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONG_REQUESTS", 100)
    monkeypatch.setattr("penstock.workload.arrivals.BLOCK_REQUESTS", 150)
    of = fleet(tmp_path)
    files = [tmp_path / "whole.parquet", tmp_path / "parts.parquet"]
    runs = [run_fleet(of, fleet_traffic(of), 3, store=file, jobs=jobs)
            for file, jobs in zip(files, (1, 2), strict=True)]  # in two processes
    assert files[0].read_bytes() == files[1].read_bytes()
    same(*runs)


def test_a_file_of_requests_does_not_depend_on_the_sizes_of_blocks(tmp_path: Path) -> None:
    of = fleet(tmp_path)
    table = run_fleet(of, fleet_traffic(of), 3).table
    for name, sizes in (("a", (len(table),)), ("b", (7, 900, 1, len(table)))):
        with RequestWriter(tmp_path / name, rows_per_group=256) as writer:
            first = 0
            for size in sizes:
                writer.write(table.take(slice(first, first + size)))
                first += size
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(read_requests(tmp_path / "a")) == len(table)
