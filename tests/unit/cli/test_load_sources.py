"""Timed loads are told apart by what holds them."""

from pathlib import Path

import pytest

from penstock.cli.load_sources import loads_from, profile_beside
from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.profiles.folder import write_profile
from penstock.perf.profiles.points import Measurement, ModelConfiguration


def test_a_table_of_means_counts_what_was_warm(tmp_path: Path) -> None:
    table = tmp_path / "means.csv"
    table.write_text("model,setting,size_reported_gb,load_mean_s,load_std_s,unload_mean_s,"
                     "inrun_load_mean_s,inrun_load_n\nm,cc,4,2.5,1,0.1,9,30\n")
    (found,) = loads_from(table)
    assert (found.model, found.seconds, found.confidential) == ("m", 2.5, True)
    assert found.size_bytes == found.cached_bytes == 2 * GIB


def test_a_table_of_loads(tmp_path: Path) -> None:
    table = tmp_path / "loads.csv"
    table.write_text("run,model,size_bytes,seconds\n1,a,5,2\n")
    assert [one.model for one in loads_from(table)] == ["a"]
    assert profile_beside(table) is None


def test_a_profile(tmp_path: Path) -> None:
    row = Measurement("load", ModelConfiguration("m", (), "bf16", "bf16"), seconds=2.0,
                      file_bytes=100.0, cached_share=1.0)
    write_profile(tmp_path / "profile", {}, [row])
    assert [one.cached_bytes for one in loads_from(tmp_path / "profile")] == [100]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a profile"):
        loads_from(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        loads_from(tmp_path / "nowhere.csv")
