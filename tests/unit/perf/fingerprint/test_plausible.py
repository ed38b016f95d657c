"""Columns in other units are told from slow machines and large models."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.catalog.catalog import load_catalog
from penstock.core.units import GIB
from penstock.estimate.units import unit_problems
from penstock.perf.fingerprint.plausible import implausible
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.maveriq.tables import read_maveriq
from support.fingerprint_world import MODELS, cuts_of, whole_runs

CATALOG = load_catalog()
ACCELERATORS = list(CATALOG.accelerators.values())


def told(runs: Sequence[ProfiledRun], time: float = 1.0, memory: float = 1.0) -> str:
    scaled = [replace(run, latency_s=None if run.latency_s is None else run.latency_s * time,
                      memory_bytes=None if run.memory_bytes is None else run.memory_bytes * memory)
              for run in runs]
    return implausible(scaled, CATALOG.model(runs[0].model), ACCELERATORS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("make", [cuts_of, whole_runs])
def test_units_are_told(model: str, make) -> None:
    runs = make([model])
    assert told(runs) == ""
    assert told(runs, time=20.0) == "", "a slow machine"
    slow = told(runs, time=1e3)
    assert slow.startswith(f"the world: latency {runs[0].latency_s * 1e3:.4g}: runs of {model}")
    assert slow.endswith("expected seconds; these look like milliseconds")
    assert "of the time of reading their weights; expected seconds" in told(runs, time=1e-3)
    large = told(runs, memory=1024.0)
    assert f"memory {runs[0].memory_bytes * 1024 / GIB:.4g} GiB" in large
    assert large.endswith("expected GiB on all of them together; these look like MiB")
    assert "of what their layers weigh; expected GiB" in told(runs, memory=1 / 1024)


def test_one_odd_row_says_nothing_of_a_column() -> None:
    runs = whole_runs(["llama-2-7b"])
    assert told([replace(runs[0], latency_s=1e4), *runs[1:]]) == ""


def test_neither_of_two_is_named() -> None:
    runs = whole_runs(["llama-2-7b"])
    assert told(runs, time=1e7).endswith("as long as usual; expected seconds")
    assert told(runs, memory=2.0**40).endswith("all of them together")


def test_what_is_not_known_is_passed_over() -> None:
    runs = whole_runs(["llama-2-7b"])
    assert told([replace(run, latency_s=None, memory_bytes=None) for run in runs]) == ""
    assert unit_problems([replace(run, model="nobody", latency_s=1e9) for run in runs],
                         CATALOG) == []
    assert unit_problems([replace(run, precision="fp9", latency_s=1e9) for run in runs],
                         CATALOG) == []


def test_each_model_by_itself() -> None:
    good, bad = whole_runs(["llama-2-7b"]), whole_runs(["gpt-j-6b"])
    found = unit_problems([*good, *(replace(run, latency_s=1e3 * (run.latency_s or 0.0))
                                    for run in bad)], CATALOG)
    assert len(found) == 1
    assert "gpt-j-6b" in found[0]


def test_published_tables_are_plausible_and_are_told_in_other_units(shared_data: Path) -> None:
    for path in sorted((shared_data / "maveriq").glob("*data_collection*.csv")):
        runs = [run for run in read_maveriq(path) if run.model in CATALOG.models]
        assert unit_problems(runs, CATALOG) == [], path
        for model in {run.model for run in runs}:
            own = [run for run in runs if run.model == model]
            assert "milliseconds" in told(own, time=1e3)
            assert "MiB" in told(own, memory=1024.0)
