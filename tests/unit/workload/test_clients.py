"""Traffic of many clients: rates, gaps and lengths as their files state them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.client_files import read_clients
from penstock.workload.clients import GAMMA, WEIBULL, renewals
from support.scaled_examples import unit_examples

LEVELS = [0.0, 0.5, 1.0]


def written(folder: Path, windows: list[dict[str, object]], lengths: list[dict[str, object]],
            levels: list[float] = LEVELS) -> Path:
    pq.write_table(pa.Table.from_pylist(windows), folder / "set_windows_week1.parquet")
    pq.write_table(pa.Table.from_pylist(lengths), folder / "set_lengths_week1.parquet")
    (folder / "quantile_levels.json").write_text(json.dumps(levels))
    return folder


def window(client: int, start_s: int, rate: float, family: str = "Gamma",
           shape: float | None = 1.0) -> dict[str, object]:
    return {"client": client, "start_s": start_s, "rate_per_s": rate, "cv": 1.0, "family": family,
            "shape": shape, "scale": 1.0}


def lengths(client: int, from_s: int, prompt: list[float], output: list[float]
            ) -> list[dict[str, object]]:
    return [{"client": client, "from_s": from_s, "field": "input_tokens", "quantiles": prompt},
            {"client": client, "from_s": from_s, "field": "output_tokens", "quantiles": output}]


WINDOWS = [window(0, 604_800, 2.0), window(0, 605_400, 0.0), window(0, 606_000, 4.0),
           window(7, 605_400, 1.0, "Weibull", 0.5)]
LENGTHS = [*lengths(0, 604_800, [10, 10, 10], [1, 1, 1]),
           *lengths(0, 606_000, [500, 600, 700], [5, 6, 7])]


def test_times_count_from_the_first_window_and_rates_keep_their_shape(tmp_path: Path) -> None:
    clients = read_clients(written(tmp_path, WINDOWS, LENGTHS), "set")
    assert clients.span_s == 1800.0
    assert clients.rate_per_s == pytest.approx((2 + 0 + 4 + 1) / 3)
    trace = clients.trace(0, "x", rate_per_s=70.0)
    assert len(trace) == pytest.approx(70.0 * 1800, rel=0.05)
    own = trace.arrival_s[trace.tenant.index == 0]
    assert len(own[own < 600]) == pytest.approx(60 * 600, rel=0.02)
    assert not len(own[(own >= 600) & (own < 1200)])
    assert len(own[own >= 1200]) == pytest.approx(120 * 600, rel=0.02)
    other = trace.arrival_s[trace.tenant.index == 1]
    assert other.min() >= 600
    assert other.max() < 1200
    assert trace.tenant.names == ("client-0", "client-7")


def test_lengths_are_those_of_their_time_and_clients_without_take_the_pools(tmp_path: Path
                                                                            ) -> None:
    clients = read_clients(written(tmp_path, WINDOWS, LENGTHS), "set")
    trace = clients.trace(0, "x", rate_per_s=70.0)
    late = trace.arrival_s >= 1200
    assert (trace.prompt_tokens[~late] == 10).all()
    assert trace.prompt_tokens[late].min() >= 500
    assert trace.prompt_tokens[late].mean() == pytest.approx(600, rel=0.01)
    assert trace.output_tokens[late].mean() == pytest.approx(6, rel=0.01)


def test_a_part_of_the_file_is_that_part_of_the_whole(tmp_path: Path) -> None:
    clients = read_clients(written(tmp_path, WINDOWS, LENGTHS), "set")
    whole = clients.trace(0, "x")
    assert (np.diff(whole.arrival_s) >= 0).all()
    beginning = clients.trace(0, "x", duration_s=700.0)
    assert beginning.arrival_s.tolist() == whole.arrival_s[whole.arrival_s < 700].tolist()
    part = clients.trace(0, "x", from_s=1200.0)
    assert part.arrival_s.max() < 600


@pytest.mark.parametrize(("change", "parts"), [
    ({"name": "sett"}, ["did you mean 'set'"]),
    ({"levels": [0.0, 1.0]}, ["3 quantiles", "expected 2"]),
    ({"levels": [0.1, 0.5, 1.0]}, ["quantile_levels.json", "from 0 to 1"]),
    ({"windows": [window(0, 0, -1.0), window(0, 600, 1.0)]}, ["row 1", "rate_per_s"]),
    ({"windows": [window(0, 0, 1.0, "Pareto"), window(0, 600, 1.0)]}, ["Pareto"]),
    ({"windows": [{"client": 0, "start_s": 0}]}, ["no column rate_per_s"]),
    ({"windows": [window(0, 0, 1.0)]}, ["one time only"]),
])
def test_wrong_files_are_told(tmp_path: Path, change: dict[str, object],
                              parts: list[str]) -> None:
    written(tmp_path, change.get("windows", WINDOWS), LENGTHS, change.get("levels", LEVELS))
    with pytest.raises(InputError) as caught:
        read_clients(tmp_path, str(change.get("name", "set")))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    clients = read_clients(written(tmp_path, WINDOWS, LENGTHS), "set")
    with pytest.raises(InputError, match="expected at most 100,000,000"):
        clients.trace(0, "x", rate_per_s=1e6)


@unit_examples(20)
@given(st.sampled_from([GAMMA, WEIBULL]), st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_renewals_are_stationary(family: int, shape: float) -> None:
    """As many arrivals as expected come in the mean, however long or short the span is."""
    rng = np.random.default_rng(3)
    for expected in (0.3, 3.0):
        counts = np.array([len(renewals(rng, expected, family, shape)) for _ in range(4000)])
        error = counts.std() / np.sqrt(len(counts))
        assert abs(counts.mean() - expected) < 4.5 * error


def test_production_rates_are_kept(shared_data: Path) -> None:
    clients = read_clients(shared_data / "servegen", "m-small")
    trace = clients.trace(0, "x", rate_per_s=0.5)
    assert len(trace) == pytest.approx(0.5 * clients.span_s, rel=0.02)
    assert len(clients.windows) == 35
