"""MaverIQ's profiling tables as runs."""

import gzip
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.published.maveriq.tables import read_maveriq

HEADER = ("Model,TP,PP,PP_Map,DTYPE,INT8_KV_Cache,Output_Lenght,Batch_Size,Latency,"
          "Memory-Pre-Run,Memory-After-Run,Time-Gen-Graph,Time-Prof\n")
ROW = "llama-2-7b,2,4,8 8 8 8,int4,True,100,1,0.5,10.5,13.75,170,25\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profiles.csv"
    path.write_text(text)
    return path


def test_a_row_is_a_run_in_our_words_and_units(tmp_path: Path) -> None:
    (run,) = read_maveriq(written(tmp_path, HEADER + ROW))
    assert (run.model, run.tensor, run.pipeline) == ("llama-2-7b", 2, 4)
    assert run.layers_by_stage == (8, 8, 8, 8)
    assert (run.num_layers, run.num_accelerators) == (32, 8)
    assert (run.precision, run.kv_precision) == ("int4", "int8")
    assert (run.prompt_tokens, run.output_tokens, run.batch) == (None, 100, 1)
    assert run.latency_s == 0.5
    assert (run.memory_loaded_bytes, run.memory_bytes) == (10.5 * GIB, 13.75 * GIB)
    assert run.source == f"{tmp_path}/profiles.csv:2"


def test_precisions_and_order(tmp_path: Path) -> None:
    rows = "".join(ROW.replace("int4,True", f"{name},False")
                   for name in ("float16", "int8", "int4", "int4_gptq"))
    runs = read_maveriq(written(tmp_path, HEADER + rows))
    assert [run.precision for run in runs] == ["fp16", "int8", "int4", "int4_gptq"]
    assert {run.kv_precision for run in runs} == {"fp16"}


def test_a_run_that_did_not_fit_has_no_latency(tmp_path: Path) -> None:
    (run,) = read_maveriq(written(tmp_path, HEADER + ROW.replace("0.5,10.5,13.75", "nan,,None")))
    assert (run.latency_s, run.memory_loaded_bytes, run.memory_bytes) == (None, None, None)


def test_a_gzipped_file_and_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "profiles.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write(HEADER.replace("DTYPE", "Num_layers,DTYPE") + ROW.replace("int4", "32,int4"))
    assert len(read_maveriq(path)) == 1


@pytest.mark.parametrize(("text", "message"), [
    (HEADER.replace("Output_Lenght", "Output_Length") + ROW,
     r":1: no column 'Output_Lenght'; did you mean 'Output_Length'"),
    (HEADER, "no rows"), ("", "empty"),
    (HEADER + ROW + ROW.replace("int4", "int5"), r":3: DTYPE: found 'int5'; did you mean 'int"),
    (HEADER + ROW.replace("True", "yes"), r":2: INT8_KV_Cache: found 'yes'"),
    (HEADER + ROW.replace("8 8 8 8", "8 8 8"), r":2: PP_Map: found '8 8 8'; expected the layers "
     "of 4 stages"),
    (HEADER + ROW.replace("8 8 8 8", "8 8 0 16"), r":2: PP_Map"),
    (HEADER + ROW.replace(",0.5,", ",fast,"),
     r":2: Latency: found 'fast'; expected a number"),
    (HEADER + ROW.replace(",0.5,", ",-1,"),
     r":2: Latency: found '-1'; expected a number above 0"),
    (HEADER + ROW.replace(",100,1,", ",100,1.5,"),
     r":2: Batch_Size: found '1.5'; expected a whole"),
    (HEADER + ROW.replace(",25\n", "\n"), r":2: 12 fields; expected 13"),
    (HEADER.replace("Time-Prof", "Latency") + ROW, r":1: column 'Latency' stands there more"),
])
def test_a_broken_file_is_told_by_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_maveriq(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/profiles.csv")
    assert "\n" not in str(caught.value)


def test_what_is_no_csv(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.csv: No such file"):
        read_maveriq(tmp_path / "absent.csv")
    damaged = tmp_path / "damaged.csv"
    damaged.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a text file"):
        read_maveriq(damaged)


def test_the_published_tables_are_read_whole(shared_data: Path) -> None:
    folder = shared_data / "maveriq"
    assert len(read_maveriq(folder / "fingerprint_data_collection.csv")) == 1684
    assert len(read_maveriq(folder / "fingerprint_data_collection_BS.csv")) == 696
    full = read_maveriq(folder / "full_model_data_collection.csv")
    assert all(run.latency_s is not None and run.memory_bytes is not None for run in full)
    layers = {run.model: run.num_layers for run in full}
    assert layers["llama-2-70b"] == 80
    assert layers["gptj-6b"] == 28
