"""Finding, choosing, reading and refusing kernel tables."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.core.errors import InputError
from penstock.perf.kernels.layout import (
    LAYOUTS,
    backend_of,
    chosen_files,
    systems_in,
    table_files,
)
from penstock.perf.kernels.tables import read_kernel_table, read_kernel_tables
from support.kernel_tables import ELEMENTS, ROWS, SIDES, gemm_ms, write_tables

GEMM = "gemm_dtype,m,n,k,latency_ms\n"


def test_all_tables_of_a_system_are_read(tmp_path):
    tables = read_kernel_tables(write_tables(tmp_path), "toy")
    assert set(tables.tables) == set(LAYOUTS)
    gemm = tables.table("gemm")
    assert len(gemm) == len(ROWS) * len(SIDES) ** 2
    row = gemm.where(m=64, n=1024, k=512)
    assert row.seconds.tolist() == pytest.approx([gemm_ms(64, 1024, 512) / 1e3])
    assert tables.source == "toy kernel tables (nccl 2.0, vllm 1.0)"
    assert tables.table("custom_allreduce").values("message_size") == list(ELEMENTS)


def test_only_a_table_that_is_asked_for_is_read(tmp_path):
    folder = write_tables(tmp_path)
    broken = next(folder.glob("*_moe.*"))
    broken.write_text("not,a\ntable,of kernels\n")
    tables = read_kernel_tables(folder, "toy")
    assert "moe" in tables.tables
    assert len(tables.table("gemm"))
    with pytest.raises(InputError, match=r"moe\.csv\.gz: cannot be read"):
        tables.table("moe")


def test_rows_of_the_same_key_are_one_whatever_their_order(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GEMM + "bfloat16,2,8,8,0.3\nfp8,1,8,8,0.9\nbfloat16,1,8,8,0.2\n"
                    "bfloat16,2,8,8,0.1\nbfloat16,2,8,8,0.2\n")
    table = read_kernel_table(path, "gemm")
    assert table.columns["m"].tolist() == [1.0, 1.0, 2.0]
    assert table.columns["gemm_dtype"].tolist() == ["bfloat16", "fp8", "bfloat16"]
    assert table.seconds.tolist() == pytest.approx([0.2e-3, 0.9e-3, 0.2e-3])


def test_columns_that_never_vary_may_be_left_out(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("batch_size,isl,num_heads,num_key_value_heads,latency_ms\n1,16,8,1,0.01\n")
    table = read_kernel_table(path, "context_attention")
    assert table.values("head_dim") == [128]
    assert table.values("window_size") == [0]
    assert table.values("kv_cache_dtype") == ["bfloat16"]


def test_parquet_in_the_tree_of_the_database(tmp_path):
    path = tmp_path / "data/h9_sxm/gemm/vllm/0.19.0/gemm_perf.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"gemm_dtype": ["bfloat16"], "m": [1], "n": [512], "k": [512],
                             "latency": [0.25], "kernel_source": ["torch"]}), path)
    nccl = tmp_path / "data/h9_sxm/nccl/2.27/nccl_perf.parquet"
    nccl.parent.mkdir(parents=True)
    pq.write_table(pa.table({"op_name": ["all_reduce"], "num_gpus": [2], "message_size": [512],
                             "latency": [0.01]}), nccl)
    other = tmp_path / "data/h9_sxm/sglang/0.5/gemm_perf.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes())
    assert backend_of(table_files(tmp_path), "h9_sxm") == "vllm"
    path.rename(path.with_name("moe_perf.parquet"))
    assert backend_of(table_files(tmp_path), "h9_sxm") == "sglang"
    path.with_name("moe_perf.parquet").rename(path)
    tables = read_kernel_tables(tmp_path, "h9_sxm")
    assert tables.table("gemm").seconds.tolist() == [0.25e-3]
    assert tables.source == "h9_sxm kernel tables (nccl 2.27, vllm 0.19.0)"


def test_repeats_become_their_median(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GEMM + "bfloat16,1,512,512,3\nbfloat16,1,512,512,1\nbfloat16,2,512,512,9\n"
                    "bfloat16,1,512,512,2\nfp8,1,512,512,8\n")
    table = read_kernel_table(path, "gemm")
    found = dict(zip(zip(table.columns["gemm_dtype"], table.columns["m"], strict=True),
                     (table.seconds * 1e3).tolist(), strict=True))
    assert found == {("bfloat16", 1.0): 2.0, ("bfloat16", 2.0): 9.0, ("fp8", 1.0): 8.0}


def test_the_newest_version_counts_unless_one_is_named(tmp_path):
    write_tables(tmp_path, version="0.9.1")
    write_tables(tmp_path, version="0.14.0", change=lambda _, ms: 2 * ms)
    write_tables(tmp_path, system="other")
    files = table_files(tmp_path)
    assert systems_in(files) == ("other", "toy")
    assert {f.version for f in chosen_files(files, "toy").values()} == {"0.14.0", "2.0"}
    old = read_kernel_tables(tmp_path, "toy", version="0.9.1").table("gemm")
    new = read_kernel_tables(tmp_path, "toy").table("gemm")
    assert np.allclose(new.seconds, 2 * old.seconds)


@pytest.mark.parametrize(("chosen", "message"), [
    ({"system": "toys"}, "'toys' has no kernel tables; did you mean 'toy'"),
    ({"system": "toy", "backend": "sglang"}, "no tables of 'sglang'; expected one of: vllm"),
    ({"system": "toy", "version": "2"}, "no tables of vllm '2'; expected one of: 1.0")])
def test_unknown_choices_are_named(tmp_path, chosen, message):
    write_tables(tmp_path)
    with pytest.raises(InputError, match=message):
        read_kernel_tables(tmp_path, **chosen)


def test_a_table_that_is_not_there(tmp_path):
    (write_tables(tmp_path) / "toy_vllm1.0_moe.csv.gz").unlink()
    with pytest.raises(InputError, match="toy: no moe table"):
        read_kernel_tables(tmp_path, "toy").table("moe")


def test_folders_without_tables(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        table_files(tmp_path / "none")
    (tmp_path / "notes.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="holds no kernel table"):
        table_files(tmp_path)


@pytest.mark.parametrize(("text", "message"), [
    ("", "is not a table"),
    (GEMM, "no rows"),
    ("gemm_dtype,m,n,latency_ms\nbfloat16,1,1,1\n", "no column 'k'"),
    ("gemm_dtype,m,n,k\nbfloat16,1,1,1\n", "no column 'latency_ms'"),
    (GEMM + "bfloat16,1,512,512,0.1\nbfloat16,two,512,512,0.1\n", "line 3: m is 'two'; expected a"),
    (GEMM + "bfloat16,1,512,512,0.1\nbfloat16,2,512,512,0\n",
     "line 3: latency_ms is 0.0; expected a number above 0"),
    (GEMM + "bfloat16,1,512,512,nan\n", "line 2: latency_ms is empty"),
    (GEMM + "bfloat16,1,512,512,\n", "line 2: latency_ms is empty"),
    (GEMM + "bfloat16,-1,512,512,0.1\n", "line 2: m is -1; expected 0 or more"),
    (GEMM + "bfloat16,1,512,512,0.1\nbfloat16,1\n", "is not a table.*got 2")])
def test_broken_csv_says_where(tmp_path, text, message):
    path = tmp_path / "toy_vllm1_gemm.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_kernel_table(path, "gemm")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_what_they_say(tmp_path):
    parquet = tmp_path / "toy_vllm1_gemm.parquet"
    parquet.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="is not a table"):
        read_kernel_table(parquet, "gemm")
    cut = tmp_path / "toy_vllm1_gemm.csv.gz"
    cut.write_bytes(gzip.compress(GEMM.encode() * 1000)[:40])
    with pytest.raises(InputError, match=r"cannot be read|is not a table"):
        read_kernel_table(cut, "gemm")
    with pytest.raises(InputError, match="cannot be read"):
        read_kernel_table(tmp_path / "none.csv", "gemm")


def test_a_parquet_row_is_counted_from_one(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"gemm_dtype": ["bfloat16"] * 2, "m": [1, None], "n": [1, 1],
                             "k": [1, 1], "latency": [1.0, 1.0]}), path)
    with pytest.raises(InputError, match="row 2: m is"):
        read_kernel_table(path, "gemm")
