"""Other tools' files as rows, and broken ones told by line and column."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.imported import Imported, write_imported
from penstock.perf.profiles.points import Measurement
from penstock.perf.profiles.summary import read_runs, summaries
from penstock.published.maveriq.tables import read_maveriq
from penstock.registry.sources import PROFILES, read_foreign

MAVERIQ = ("Model,TP,PP,PP_Map,DTYPE,INT8_KV_Cache,Output_Lenght,Batch_Size,Latency,"
           "Memory-Pre-Run,Memory-After-Run\nllama,2,2,8 8,int4,True,100,1,0.5,10.5,13.75\n")
SINCERE_LOADS = ("model_name,model_size /GB,mean_loading_time /s,std_loading_time /s,"
                 "mean_unloading_time /s,std_unloading_time /s\ngemma,60,4.5,3.0,0.03,0.001\n")
SINCERE_BATCHES = ("model,batch_size,processing time (s),throughput (qps),"
                   "05_gpu_smi/gpu_0_fb_used_MiB\ngemma,1,1.5,0.7,1024\ngemma,1,1.6,0.7,1024\n"
                   "gemma,128,None,None,None\n")
VIDUR_MLP = ("time_stats.emb.min,time_stats.emb.median,time_stats.add.median,n_embd,num_tokens,"
             "num_tensor_parallel_workers\n0.1,0.25,0.5,4096,32,2\n0.1,0.26,0.5,4096,32,2\n")
VIDUR_ATTENTION = ("time_stats.attn_prefill.median,time_stats.attn_decode.median,n_embd,"
                   "num_tensor_parallel_workers,batch_size,prefill_chunk_size,kv_cache_size,"
                   "is_prefill\n,0.015,8192,2,1,0,32,False\n0.5,,8192,2,1,64,32,True\n")
VIDUR_REDUCE = (",time_stats.all_reduce.median,rank,num_workers,size,collective\n"
                "0,0.023,0,8,2048,all_reduce\n")
GEMM = "kernel_source,gemm_dtype,m,n,k,latency_ms\nlinear,fp8,8,16,32,0.5\n"


def written(folder: Path, text: str, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def rows(folder: Path, tool: str, text: str, name: str = "file.csv") -> tuple[Measurement, ...]:
    return read_foreign(written(folder, text, name), tool).measurements


def test_maveriq(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, "maveriq", MAVERIQ)
    assert (row.kind, row.seconds, row.batch, row.output_tokens) == ("batch", 0.5, 1, 100)
    assert row.configuration.layers_by_stage == (8, 8)
    assert row.memory_loaded_bytes == 10.5 * GIB
    lost = rows(tmp_path, "maveriq", MAVERIQ.replace("0.5,10", "nan,10"))[0]
    assert (lost.outcome, lost.seconds) == ("out_of_memory", None)


def test_what_is_imported_of_maveriq_is_what_is_read_of_it(shared_data: Path,
                                                           tmp_path: Path) -> None:
    path = shared_data / "maveriq" / "fingerprint_data_collection_BS.csv"
    write_imported(read_foreign(path, "maveriq"), "maveriq", path, tmp_path / "p")
    assert read_runs(tmp_path / "p") == read_maveriq(path)


def test_sincere_loads(tmp_path: Path) -> None:
    load, unload = rows(tmp_path, "sincere", SINCERE_LOADS)
    assert (load.kind, load.seconds, load.cache) == ("load", 4.5, "warm")
    assert load.file_bytes == 30 * GIB
    assert "standard deviation 3 s" in load.reason
    assert (unload.kind, unload.seconds) == ("unload", 0.03)


def test_sincere_batches(tmp_path: Path) -> None:
    first, second, lost = rows(tmp_path, "sincere", SINCERE_BATCHES)
    assert (first.seconds, first.batch, first.output_tokens) == (1.5, 1, 50)
    assert (first.repeat, second.repeat) == (0, 1)
    assert first.key == second.key
    assert first.memory_bytes == 1024 * (1 << 20)
    assert (lost.batch, lost.outcome, lost.seconds) == (128, "out_of_memory", None)
    assert [point.outcome for point in summaries([first, second, lost])] == ["ok", "out_of_memory"]


def test_the_derived_tables_of_sincere(shared_data: Path) -> None:
    loads = read_foreign(shared_data / "sincere" / "model_load_times.csv", "sincere").measurements
    assert len(loads) == 18
    assert {one.cache for one in loads} == {"warm", "cold"}
    cold = {one.configuration.model: one.seconds for one in loads
            if one.cache == "cold" and "noncc" in one.shape}
    assert cold["gemma-7b"] == pytest.approx(10.51, abs=0.01)
    batches = read_foreign(shared_data / "sincere" / "batch_profiling_raw.csv", "sincere")
    assert len(batches.measurements) == 1953
    assert sum(one.outcome == "out_of_memory" for one in batches.measurements) > 0


def test_vidur_operations(tmp_path: Path) -> None:
    found = rows(tmp_path, "vidur", VIDUR_MLP)
    assert [(one.op, one.repeat) for one in found] == [("emb", 0), ("add", 0), ("emb", 1),
                                                       ("add", 1)]
    assert [one.seconds for one in found] == pytest.approx([0.00025, 0.0005, 0.00026, 0.0005])
    assert found[0].configuration.tensor == 2
    assert json.loads(found[0].shape) == {"n_embd": 4096, "num_tokens": 32,
                                          "num_tensor_parallel_workers": 2}
    decode, prefill = rows(tmp_path, "vidur", VIDUR_ATTENTION)
    assert (decode.op, decode.seconds) == ("attn_decode", pytest.approx(0.000015))
    assert (prefill.op, prefill.seconds) == ("attn_prefill", pytest.approx(0.0005))
    (reduce,) = rows(tmp_path, "vidur", VIDUR_REDUCE)
    assert (reduce.op, reduce.configuration.tensor) == ("all_reduce", 8)
    assert json.loads(reduce.shape)["size"] == 2048


def test_vidur_medians_by_model(tmp_path: Path) -> None:
    found = rows(tmp_path, "vidur", "hardware,model,num_tokens,emb_ms,add_ms\na100,l3,8,0.5,1\n")
    assert [(one.op, one.seconds, one.configuration.model) for one in found] == [
        ("emb", 0.0005, "l3"), ("add", 0.001, "l3")]


@pytest.mark.parametrize(("text", "op", "tensor", "precision"), [
    (GEMM, "gemm", 1, "fp8"),
    ("op_name,nccl_dtype,num_gpus,message_size,latency\nall_gather,half,4,256,0.5\n",
     "all_gather", 4, "fp16"),
    ("allreduce_dtype,num_gpus,message_size,latency_ms\nbfloat16,2,128,0.5\n",
     "custom_allreduce", 2, "bf16"),
    ("batch_size,isl,attn_dtype,latency_ms\n1,512,bfloat16,0.5\n", "context_attention", 1, "bf16"),
    ("batch_size,attn_dtype,step,latency_ms\n1,bfloat16,9,0.5\n", "generation_attention", 1,
     "bf16"),
])
def test_aiconfigurator_tables(tmp_path: Path, text: str, op: str, tensor: int, precision: str
                               ) -> None:
    (row,) = rows(tmp_path, "aiconfigurator", text, "h200_vllm.csv")
    assert (row.kind, row.op, row.seconds) == ("op", op, 0.0005)
    assert (row.configuration.tensor, row.configuration.precision) == (tensor, precision)
    assert row.configuration.model == "h200_vllm"
    assert json.loads(row.shape)


def test_gzipped_tables(tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write(GEMM)
    assert len(read_foreign(path, "aiconfigurator").measurements) == 1


def bench(**changes: Any) -> str:
    return json.dumps({"completed": 2, "model_id": "llama", "max_concurrency": 4,
                       "input_lens": [100, 200], "output_lens": [3, 1], "ttfts": [0.5, 0.7],
                       "itls": [[0.1, 0.3], []], "errors": ["", ""], **changes})


def test_vllm_bench(tmp_path: Path) -> None:
    first, second = rows(tmp_path, "vllm-bench", bench())
    assert (first.kind, first.batch, first.configuration.model) == ("request", 4, "llama")
    assert first.seconds == pytest.approx(0.9)
    assert (first.first_token_s, first.decode_step_s) == (0.5, pytest.approx(0.2))
    assert (second.seconds, second.decode_step_s, second.prompt_tokens) == (0.7, None, 200)
    failed = rows(tmp_path, "vllm-bench", bench(errors=["", "Traceback\nboom"]))[1]
    assert (failed.outcome, failed.seconds, failed.reason) == ("failed", None, "Traceback")


@pytest.mark.parametrize(("tool", "text", "said"), [
    ("maveriq", MAVERIQ.replace(",0.5,", ",x,"), ":2: Latency: found 'x'; expected a number"),
    ("sincere", "a,b\n1,2\n", ":1: neither a table of loads nor of batches"),
    ("sincere", SINCERE_BATCHES.replace("1.6", "-1"), ":3: processing time"),
    ("sincere", SINCERE_LOADS.replace("60", "big"), ":2: model_size /GB: found 'big'"),
    ("vidur", "a,b\n1,2\n", ":1: no column 'time_stats.<op>.median'"),
    ("vidur", VIDUR_MLP.replace("0.25", "fast"), r":2: time_stats\.emb\.median: found 'fast'"),
    ("aiconfigurator", "m,n,k\n1,2,3\n", ":1: no column 'latency'"),
    ("aiconfigurator", "a,latency\n1,2\n", "no column of a table that is known"),
    ("aiconfigurator", GEMM.replace("0.5", "-0.5"), ":2: latency_ms: found '-0.5'"),
    ("vllm-bench", "{", "not JSON"), ("vllm-bench", "[]", "found a list; expected an object"),
    ("vllm-bench", '{"completed": 2}', "run it with --save-detailed"),
    ("vllm-bench", "{}", "expected the result of"),
    ("vllm-bench", bench(ttfts=[0.5, "x"]), "request 1: ttfts: found 'x'"),
    ("vllm-bench", bench(ttfts=[0.5]), "input_lens: 2 entries; expected 1"),
    ("vllm-bench", bench(itls=[[0.1, -2], []]), "request 0: itls: found -2"),
    ("vllm-bench", bench(itls=[0.1, []]), "request 0: itls: found 0.1; expected a list"),
    ("vllm-bench", bench(output_lens=[1.5, 1]), "request 0: output_lens: found 1.5"),
    ("guidelm", "", "--from 'guidelm' is unknown"),
])
def test_broken_files_are_one_clear_error(tmp_path: Path, tool: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        rows(tmp_path, tool, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tool", PROFILES.names())
def test_no_file_and_no_text(tmp_path: Path, tool: str) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: "):
        read_foreign(tmp_path / "absent.csv", tool)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(InputError, match=r"binary\.csv"):
        read_foreign(binary, tool)


def test_the_folder_says_where_it_is_from(tmp_path: Path) -> None:
    path = written(tmp_path, GEMM)
    write_imported(read_foreign(path, "aiconfigurator"), "aiconfigurator", path, tmp_path / "p")
    document = read_profile(tmp_path / "p").document
    assert document["kind"] == "imported"
    assert document["imported"]["tool"] == "aiconfigurator"
    assert len(document["imported"]["sha256"]) == 64
    assert document["notes"]
    with pytest.raises(InputError, match="is there already"):
        write_imported(Imported(()), "vidur", path, tmp_path / "p")


def test_real_tables_have_as_many_rows_as_their_files(shared_data: Path) -> None:
    path = shared_data / "aiconfigurator" / "h200_sxm_nccl2.29.2.csv.gz"
    found = read_foreign(path, "aiconfigurator").measurements
    with gzip.open(path, "rt") as lines:
        assert len(found) == len(lines.readlines()) - 1
    seconds = np.array([one.seconds for one in found])
    assert 1e-6 < np.median(seconds) < 1.0
