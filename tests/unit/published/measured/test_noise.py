"""How far runs of the same point differ."""

from pathlib import Path

import pytest

from penstock.published.measured.noise import noise_table
from penstock.published.measured.rows import read_measured
from support.measured_rows import write_measured


def table(folder: Path, *points):
    write_measured(folder, *points)
    return {record["runs"]: record for record in noise_table(read_measured(folder))}


def test_runs_of_equal_settings_are_paired_by_release(tmp_path: Path) -> None:
    found = table(tmp_path, {"tpot_mean": 0.010}, {"tpot_mean": 0.011},
                  {"tpot_mean": 0.012, "framework_version": "0.18.0"},
                  {"tpot_mean": 0.5, "load_value": 16})
    assert found["same release"]["pairs"] == 1
    assert found["same release"]["TPOT median"] == pytest.approx(0.1)
    assert found["another release"]["pairs"] == 2
    assert found["another release"]["tokens/s median"] == "-"


def test_one_run_in_two_collections_is_no_pair(tmp_path: Path) -> None:
    assert table(tmp_path, {}, {}) == {}
