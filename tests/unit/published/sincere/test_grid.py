"""The grid of SINCERE's runs: cells, means, gaps, and what resuming checks."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.experiment.workers import Cores
from penstock.published.sincere.cells import (
    PUBLISHED,
    Cell,
    Mode,
    Setup,
    Timers,
    requests_of,
    run_cell,
    simulate_cell,
)
from penstock.published.sincere.grid import (
    Axes,
    cells,
    check_resumed,
    documents,
    rows,
    summary,
)

SHORT = Setup(duration_s=150.0)
CELL = Cell("noncc", "sincere-best-batch", "gamma", 4.0, 40.0, 0)
AXES = Axes(PUBLISHED[:2], ("gamma",), (4.0,), (40.0, 80.0), ("cc", "noncc"), (0, 1, 2))


def found(axes: Axes = AXES, setup: Setup = SHORT) -> list[Mapping[str, Any]]:
    return [document for _, document in documents(cells(axes), setup)]


def test_the_published_grid_has_108_cells_per_mode() -> None:
    every = cells(Axes())
    assert len(every) == 216
    assert sum(cell.mode == "cc" for cell in every) == 108
    assert len({cell.name for cell in every}) == 216


@pytest.mark.parametrize(("changes", "said"), [
    ({"policies": ()}, "policies: none given"), ({"seeds": (1, 1)}, "seeds: one appears twice"),
    ({"seeds": range(1000)}, "216,000 cells")])
def test_a_grid_that_is_none(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        cells(replace(Axes(), **changes))


def test_every_request_has_one_fate() -> None:
    for document in found():
        figures = document["figures"]
        assert figures["received"] == (figures["served"] + figures["lost"] + figures["shed"]
                                       + figures["unfinished"])
        assert figures["in_sla"] <= figures["served"]
        assert figures["lost"] + figures["shed"] == sum(figures["reasons"].values())
        assert figures["received"] == sum(one["received"] for one in figures["models"].values())
        assert figures["in_sla"] == sum(one["in_sla"] for one in figures["models"].values())
        shares = [figures[f"{part}_share"] for part in ("loading", "computing", "idle")]
        assert all(0.0 <= share <= 1.0 for share in shares)
        assert sum(shares) == pytest.approx(1.0)  # one resident: loads and batches in turn


def test_modes_policies_and_slas_get_the_same_requests() -> None:
    base = requests_of(CELL, SHORT)
    for changes in ({"mode": "cc"}, {"policy": PUBLISHED[1]}):
        assert requests_of(replace(CELL, **changes), SHORT) == base  # type: ignore[arg-type]
    later = requests_of(replace(CELL, sla_s=80.0), SHORT)
    assert [(one.model, one.arrival_s) for one in later] == [
        (one.model, one.arrival_s) for one in base]
    assert all(one.deadline_s == one.arrival_s + 80.0 for one in later)
    assert requests_of(replace(CELL, seed=1), SHORT) != base
    assert requests_of(replace(CELL, pattern="ramp"), SHORT) != base


def test_exact_patterns_have_the_nominal_mean() -> None:
    setup = replace(SHORT, exact=True)
    for pattern in ("gamma", "bursty", "ramp"):
        assert len(requests_of(replace(CELL, pattern=pattern), setup)) == 600


def test_workers_change_nothing() -> None:
    alone = list(documents(cells(AXES)[:4], SHORT))
    assert list(documents(cells(AXES)[:4], SHORT, where=Cores(2))) == alone


def test_done_cells_are_left_out() -> None:
    every = cells(AXES)
    left = [cell for cell, _ in documents(every, SHORT, {cell.name for cell in every[1:]})]
    assert left == every[:1]


def test_means_and_paired_gaps() -> None:
    every = found()
    document = summary(every, AXES, SHORT)
    table = rows(every)

    def mean(mode: str, seed: int, **where: Any) -> float:
        mine = [row["sla_received"] for row in table if row["mode"] == mode
                and row["seed"] == seed and row["policy"] == PUBLISHED[0]
                and all(row[key] == value for key, value in where.items())]
        return sum(mine) / len(mine)

    def entry(part: str, **where: Any) -> Mapping[str, Any]:
        found, = [one for one in document[part] if {key: value for key, value in one.items()
                                                    if key != "figures"} == where]
        figure: Mapping[str, Any] = found["figures"]["sla_received"]
        return figure

    whole = entry("groups", mode="cc", policy=PUBLISHED[0])
    assert whole["mean"] == pytest.approx(sum(mean("cc", seed) for seed in range(3)) / 3)
    assert whole["num_seeds"] == 3
    assert whole["half_width"] > 0
    at_80 = entry("groups", mode="cc", policy=PUBLISHED[0], sla_s=80.0)
    assert at_80["mean"] == pytest.approx(sum(mean("cc", s, sla_s=80.0) for s in range(3)) / 3)
    gap = entry("gaps", policy=PUBLISHED[0])
    assert gap["mean"] == pytest.approx(
        sum(mean("cc", seed) - mean("noncc", seed) for seed in range(3)) / 3)
    assert gap["mean"] < 0
    cell = entry("cells", mode="noncc", policy=PUBLISHED[0], pattern="gamma", rate_per_s=4.0,
                 sla_s=40.0)
    assert cell["num_seeds"] == 3
    assert len(document["models"]) == 2 * 2 * 3
    lost = sum(row["lost"] for row in table if row["mode"] == "cc"
               and row["policy"] == PUBLISHED[0])
    reasons, = [one["reasons"] for one in document["reasons"]
                if (one["mode"], one["policy"]) == ("cc", PUBLISHED[0])]
    assert sum(reasons.values()) >= lost > 0


def test_one_mode_has_no_gap() -> None:
    axes = replace(AXES, modes=("cc",))
    assert summary(found(axes), axes, SHORT)["gaps"] == []


def test_a_resumed_cell_must_be_of_the_same_settings() -> None:
    (cell, document), = documents(cells(AXES)[:1], SHORT)
    stored = json.loads(json.dumps(document))
    assert check_resumed(stored, cell, SHORT) == document
    with pytest.raises(InputError, match=r"duration_s is 150.0 there and 1200.0 now"):
        check_resumed(stored, cell, Setup())
    with pytest.raises(InputError, match="exact is False there"):
        check_resumed(stored, cell, replace(SHORT, exact=True))
    for broken in ([], {"settings": {}}, {"settings": 3, "figures": {}}):
        with pytest.raises(InputError, match="not a cell"):
            check_resumed(broken, cell, SHORT)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(InputError, match=r"'sincere-best' is unknown; did you mean"):
        run_cell(replace(CELL, policy="sincere-best"), SHORT)


def test_timers_look_up_the_table_of_the_published_run() -> None:
    def ends(timers: Timers, mode: Mode, sla_s: float) -> list[float]:
        cell = replace(CELL, mode=mode, policy="sincere-best-batch-timer", sla_s=sla_s)
        run = simulate_cell(cell, replace(SHORT, duration_s=400.0, timers=timers))
        return sorted(run.end_s[run.served].tolist())

    # Own loads are longer, and at 60 s two deviations were added, so timers end at other times.
    assert ends("own", "cc", 40.0) != ends("as-run", "cc", 40.0)
    assert ends("own", "cc", 60.0) != ends("as-run", "cc", 60.0)
    assert ends("own", "noncc", 60.0) == ends("as-run", "noncc", 60.0)


def test_knobs_reach_the_policy() -> None:
    busy = replace(CELL, rate_per_s=12.0)
    raced = run_cell(busy, SHORT)
    mended = run_cell(replace(busy, policy="sincere-best-batch:overwrite=false:max_batch=64"),
                      SHORT)
    assert raced["lost"] > 0
    assert mended["lost"] == 0
    assert mended["mean_batch"] <= 64


def test_more_residents_load_less() -> None:
    cell = replace(CELL, mode="cc", policy="penstock", rate_per_s=8.0)
    one, two, three = (run_cell(cell, setup)["loads"] for setup in (
        Setup(), Setup(residents=2), Setup(residents=3, weights="bf16")))
    assert one > 5 * two
    assert (two, three) <= (4, 3)


def test_a_steady_run_is_the_mean_of_its_spread() -> None:
    steady = simulate_cell(CELL, replace(SHORT, spread=False))
    again = simulate_cell(CELL, replace(SHORT, spread=False))
    assert steady.loads == again.loads
    varied = simulate_cell(CELL, SHORT)
    assert [one.model for one in varied.loads[:3]] == [one.model for one in steady.loads[:3]]
    assert varied.loads[0].seconds != steady.loads[0].seconds


def test_confidential_runs_answer_fewer_in_time() -> None:
    def in_time(mode: Mode) -> list[float]:
        return [float(simulate_cell(replace(CELL, mode=mode, seed=seed), Setup()).in_time.mean())
                for seed in range(3)]

    assert max(in_time("cc")) < 0.6 * min(in_time("noncc"))
