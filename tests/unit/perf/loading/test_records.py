"""Timed loads are read from tables, profiles and SINCERE's logs."""

import gzip
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.loading.records import LoadRecord, read_load_records, records_of_profile
from penstock.perf.profiles.folder import Profile
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.published.sincere.loads import is_sincere, sincere_batches, sincere_loads


def test_a_table(tmp_path: Path) -> None:
    table = tmp_path / "loads.csv"
    table.write_text("run,model,size_bytes,seconds,host,confidential,cached_bytes\n"
                     "1,a,100,2.5,x,yes,\n1,b,200,3,x,1,50\n1,a,100,2,y,no,0\n")
    assert read_load_records(table) == [
        LoadRecord("x", "1", "a", 100, 2.5, True, True, None),
        LoadRecord("x", "1", "b", 200, 3.0, False, True, 50),
        LoadRecord("y", "1", "a", 100, 2.0, True, False, 0)]


@pytest.mark.parametrize(("rows", "message"), [
    ("1,a,big,2,", "loads.csv:2: size_bytes: found 'big'; expected a number"),
    ("1,a,5,0,", "loads.csv:2: seconds: found '0'; expected a number above 0"),
    ("1,,5,1,", "loads.csv:2: model: found ''; expected a name"),
    ("1,m,10,2,\n2,m,11,3,", "csv:3: size_bytes: found '11'; expected 10, as m has it above"),
    ("1,m,10,2,\n2,m,10,3,12",
     "csv:3: cached_bytes: found '12'; expected no more than its 10 bytes")])
def test_a_table_with_a_fault(tmp_path: Path, rows: str, message: str) -> None:
    table = tmp_path / "loads.csv"
    table.write_text(f"run,model,size_bytes,seconds,cached_bytes\n{rows}\n")
    with pytest.raises(InputError, match=message):
        read_load_records(table)


def test_a_profile() -> None:
    def load(**more: object) -> Measurement:
        values = {"seconds": 2.0, "file_bytes": 100.0, "cached_share": 0.25, **more}
        return Measurement("load", ModelConfiguration("m", (), "bf16", "bf16"),
                           **values)  # type: ignore[arg-type]

    profile = Profile({}, (load(warm_up=True), load(), load(cached_share=None, cache="warm"),
                           load(outcome="failed"), load(file_bytes=None),
                           load(cached_share=None, cache="cold",
                                shape='{"setting":"cc"}')), "here")
    found = records_of_profile(profile)
    assert [(one.cached_bytes, one.first, one.confidential) for one in found] == [
        (25, True, False), (25, False, False), (100, False, False), (0, False, True)]
    with pytest.raises(InputError, match="here: no loads of files in this profile"):
        records_of_profile(Profile({}, (), "here"))


def write_sincere(folder: Path, batches: str) -> None:
    (folder / "model_load_times.csv").write_text(
        "model,setting,size_true_fp32_gib\nm,cc,2\nn,cc,1\nm,noncc,2\nn,noncc,1\n")
    (folder / "runs_summary.csv").write_text(
        "run,setting,strategy,sla_s,started\n0,cc,BestBatch,40,20240102_000000\n"
        "1,noncc,BestBatch,80,20240101_000000\n")
    with gzip.open(folder / "batches.csv.gz", "wt") as file:
        file.write("run,model,batch_size,t_lock_s,t_loaded_s,infer_s\n" + batches)


def test_sincere(tmp_path: Path) -> None:
    assert not is_sincere(tmp_path)
    write_sincere(tmp_path, "0,m,4,1,6,2\n0,m,5,9,,2\n1,n,6,1,3,2\n0,n,7,20,24,1\n")
    assert is_sincere(tmp_path)
    batches = sincere_batches(tmp_path)
    assert [(one.run, one.batch_size, one.swap_s, one.first) for one in batches] == [
        ("1", 6, 2.0, True), ("0", 4, 5.0, True), ("0", 5, None, False), ("0", 7, 4.0, False)]
    assert list(sincere_loads(batches)) == [
        LoadRecord("plain", "1", "n", GIB, 2.0, True),
        LoadRecord("confidential", "0", "m", 2 * GIB, 5.0, True, True),
        LoadRecord("confidential", "0", "n", GIB, 4.0, False, True)]


@pytest.mark.parametrize(("batch", "message"), [
    ("7,m,4,1,6,2", "run: found '7'; expected one that runs_summary.csv has"),
    ("0,q,4,1,6,2", "model: found 'q'; expected one that model_load_times.csv has")])
def test_sincere_with_a_stranger(tmp_path: Path, batch: str, message: str) -> None:
    write_sincere(tmp_path, f"{batch}\n")
    with pytest.raises(InputError, match=message):
        sincere_batches(tmp_path)
