"""Traffic drawn block by block is the traffic that is drawn whole."""

from dataclasses import fields, replace

import numpy as np
import pytest

import penstock.workload.arrivals as arrivals_module
from penstock.core.errors import InputError
from penstock.workload.arrivals import ArrivalProcess, gamma, poisson
from penstock.workload.clients import ClientTraffic, Quantiles, Windows
from penstock.workload.drawn import drawn
from penstock.workload.length_tables import length_table
from penstock.workload.merge import joined
from penstock.workload.mixing import drawable, generate
from penstock.workload.profile import bursty, diurnal
from penstock.workload.source import TrafficSource
from penstock.workload.workload import Workload

LENGTHS = length_table("azure-2023-conv")


def clients() -> ClientTraffic:
    starts = np.arange(0.0, 1200.0, 60.0)

    def windows(rate: float, family: int) -> Windows:
        return Windows(starts, rate * (1 + np.arange(20) % 3), np.full(20, family, np.int8),
                       np.full(20, 0.7))

    tokens = Quantiles(np.array([0.0, 600.0]), np.array([[5.0, 50.0], [10.0, 90.0]]))
    return ClientTraffic({"a": windows(1.0, 0), "b": windows(0.3, 1), "c": windows(0.1, 0)},
                         {"a": tokens, "b": tokens}, {"a": tokens, "b": tokens},
                         np.array([0.0, 1.0]), 60.0, 1200.0)


SOURCES = {
    "poisson": TrafficSource("poisson", mix={"x": 2, "y": 1}, arrivals=poisson(), lengths=LENGTHS,
                             rate_per_s=5.0, duration_s=300.0),
    "gamma": TrafficSource("gamma", mix={"y": 1}, tenants={"t": 1, "u": 3}, arrivals=gamma(2.0),
                           lengths=LENGTHS, rate_per_s=3.0, num_requests=900, start_s=40.0),
    "diurnal": TrafficSource("diurnal", mix={"z": 1}, arrivals=ArrivalProcess(
        1.0, diurnal(1.8, 200.0)), lengths=LENGTHS, rate_per_s=4.0, duration_s=500.0),
    "bursty": TrafficSource("bursty", mix={"z": 1}, arrivals=ArrivalProcess(
        1.0, bursty(5.0, 20.0)), lengths=LENGTHS, rate_per_s=4.0, num_requests=700),
    "even": TrafficSource("even", mix={"x": 1}, arrivals=ArrivalProcess(0.0), lengths=LENGTHS,
                          rate_per_s=2.0, duration_s=250.0),
    "clients": TrafficSource("clients", mix={"x": 1, "y": 2}, clients=clients(), rate_per_s=3.0),
}


def same(one: Workload, other: Workload) -> None:
    for field in fields(Workload):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, field.name)
        else:
            assert ours == theirs, field.name


@pytest.mark.parametrize("names", [[name] for name in SOURCES] + [
    ["poisson", "gamma"], ["clients", "diurnal", "even"], ["even", "bursty", "poisson", "clients"]])
@pytest.mark.parametrize("block", [7, 250, 1 << 20])
def test_blocks_of_any_length_are_the_whole(names: list[str], block: int,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [SOURCES[name] for name in names]
    monkeypatch.setattr(arrivals_module, "BLOCK_REQUESTS", 1 << 20)
    monkeypatch.setattr("penstock.workload.clients.BLOCK_REQUESTS", 1 << 20)
    whole = generate(sources, 3)
    monkeypatch.setattr(arrivals_module, "BLOCK_REQUESTS", block)
    monkeypatch.setattr("penstock.workload.clients.BLOCK_REQUESTS", block)
    seen: list[int] = []
    found = drawn(sources, 3, check=lambda part, first: seen.append(first))
    assert found is not None
    assert len(found) == len(whole)
    assert found.duration_s == whole.duration_s
    blocks = list(found.blocks())
    assert len(blocks) == len(seen)
    same(joined(blocks), whole)
    same(joined(list(found.blocks())), whole)  # again the same


def test_bounds_cut_the_end() -> None:
    whole = generate([SOURCES["poisson"]], 1)
    few = drawn([SOURCES["poisson"]], 1, most=10, check=lambda *_: None)
    assert few is not None
    np.testing.assert_array_equal(joined(list(few.blocks())).arrival_s, whole.arrival_s[:10])
    early = drawn([SOURCES["poisson"]], 1, until_s=20.0, check=lambda *_: None)
    assert early is not None
    np.testing.assert_array_equal(joined(list(early.blocks())).arrival_s,
                                  whole.arrival_s[whole.arrival_s <= 20.0])
    assert drawn([replace(SOURCES["poisson"], start_s=30.0)], 1, until_s=20.0,
                 check=lambda *_: None) is None


def test_sources_that_need_all_requests_are_not_drawable() -> None:
    assert all(map(drawable, SOURCES.values()))
    assert not drawable(replace(SOURCES["clients"], num_requests=5))
    assert not drawable(replace(SOURCES["even"], arrivals=ArrivalProcess(exact_rate=True)))
    with pytest.raises(InputError, match="two traffic sources"):
        drawn([SOURCES["even"]] * 2, 0, check=lambda *_: None)
