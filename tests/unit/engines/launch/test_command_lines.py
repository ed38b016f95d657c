"""Command lines of each engine, by version."""

import pytest

from penstock.catalog.engines import engine_defaults, since
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.engines.launch.kinds import KINDS, check_engine, check_more, with_more
from penstock.engines.launch.values import (
    AdapterRoom,
    CommandLine,
    Drafts,
    Launch,
    Nodes,
    Option,
    Setting,
)
from support.launched import CATALOG

NEWEST = {"vllm": "0.33.0", "sglang": "0.5.23", "tensorrt-llm": "1.3.0"}
ONE = Parallelism()


def launch(version, spread=ONE, nodes=None, *, own_weights=False, **values):
    settings = {key: Setting(value, "said") for key, value in values.items()}
    return Launch("replicas[0]", version, Setting("me/model", "said"), spread, settings,
                  own_weights, nodes)


def line(engine, version=None, *args, **values):
    found = KINDS[engine].command_line(launch(version or NEWEST[engine], *args, **values))
    return " ".join(found.argv), found


def test_without_settings_only_the_model_is_named():
    assert line("vllm")[0] == "vllm serve me/model"
    assert line("sglang")[0] == "python3 -m sglang.launch_server --model-path me/model"
    assert line("tensorrt-llm")[0] == "trtllm-serve serve me/model"


def test_vllm_spells_every_setting():
    text, _ = line("vllm", None, served_name="m", host="0.0.0.0", port=9, tensor=2, pipeline=1,
                   precision="bf16", kv_precision="fp8", context_tokens=4096, max_num_seqs=7,
                   step_tokens=512, chunked=False, prefix_caching=False, memory_fraction=0.9,
                   block_tokens=32, eager=True, scheduler="{}")
    assert text == (
        "vllm serve me/model --served-model-name m --host 0.0.0.0 --port 9 "
        "--tensor-parallel-size 2 --pipeline-parallel-size 1 --gpu-memory-utilization 0.9 "
        "--max-model-len 4096 --max-num-seqs 7 --max-num-batched-tokens 512 --block-size 32 "
        "--dtype bfloat16 --kv-cache-dtype fp8 --no-enable-chunked-prefill "
        "--no-enable-prefix-caching --enforce-eager --scheduler-cls "
        "penstock.engines.vllm.scheduler.PenstockAsyncScheduler --additional-config {}")


def test_sglang_spells_every_setting():
    text, _ = line("sglang", None, Parallelism(2), served_name="m", host="0.0.0.0", port=9,
                   tensor=2, pipeline=1, precision="fp8", kv_precision="fp8",
                   context_tokens=4096, max_num_seqs=7, step_tokens=512,
                   prefix_caching=False, memory_fraction=0.9, block_tokens=32,
                   eager=True, metrics=True)
    assert text == (
        "python3 -m sglang.launch_server --model-path me/model --tp-size 2 --served-model-name m "
        "--host 0.0.0.0 --port 9 --pp-size 1 --mem-fraction-static 0.9 --context-length 4096 "
        "--max-running-requests 7 --page-size 32 --chunked-prefill-size 512 --quantization fp8 "
        "--kv-cache-dtype fp8_e5m2 --disable-radix-cache --disable-cuda-graph --enable-metrics")
    text, _ = line("sglang", None, chunked=False, step_tokens=8192, prefix_caching=True)
    assert text.endswith("me/model --chunked-prefill-size -1 --max-prefill-tokens 8192")


def test_tensorrt_llm_has_flags_and_a_file_of_options():
    text, found = line("tensorrt-llm", None, Parallelism(2), port=9, tensor=2, pipeline=1,
                       precision="bf16", kv_precision="fp8", context_tokens=4096,
                       max_num_seqs=7, step_tokens=512, chunked=True, prefix_caching=False,
                       memory_fraction=0.9, block_tokens=64)
    assert text == (
        "trtllm-serve serve me/model --tp_size 2 --port 9 --pp_size 1 "
        "--kv_cache_free_gpu_memory_fraction 0.9 --max_seq_len 4096 --max_batch_size 7 "
        "--max_num_tokens 512 --extra_llm_api_options options.yaml")
    assert found.options_document() == {
        "dtype": "bfloat16", "enable_chunked_prefill": True,
        "kv_cache_config": {"dtype": "fp8", "enable_block_reuse": False, "tokens_per_block": 64}}


ROOM = AdapterRoom(4, 32, 20)


def test_room_for_adapters():
    text, found = line("vllm", None, adapters=ROOM)
    assert text.endswith("me/model --enable-lora --max-loras 4 --max-cpu-loras 32 "
                         "--max-lora-rank 32")  # vLLM takes 16 or 32, not 20
    assert {name: one.value for name, one in found.environment.items()} == {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    assert line("sglang", None, adapters=ROOM)[0].endswith(
        "me/model --enable-lora --max-loras-per-batch 4 --max-loaded-loras 32 --max-lora-rank 20 "
        "--lora-target-modules all")
    assert line("sglang", None, adapters=ROOM, adapter_wait_s=20.0)[0].endswith(
        "--lora-target-modules all --lora-drain-wait-threshold 20")
    with pytest.raises(InputError, match="0 for no bound at all; expected more than 0"):
        line("sglang", None, adapters=ROOM, adapter_wait_s=0.0)
    with pytest.raises(InputError, match=r"replicas\[0\]: vllm 0.33.0 has no adapters of rank 513; "
                                         r"expected lora: \{max_rank: 512\} or less"):
        line("vllm", None, adapters=AdapterRoom(1, 1, 513))
    with pytest.raises(InputError, match=r"replicas\[0\].lora: tensorrt-llm loads no adapters"):
        line("tensorrt-llm", None, adapters=ROOM)


def test_options_nest_by_their_keys():
    found = CommandLine((), (), (Option(("a", "b"), 1, ""), Option(("a", "c"), 2, "")))
    assert found.options_document() == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(("engine", "version", "spread", "expected"), [
    ("vllm", None, Parallelism(2, 1, 4, 8), "--data-parallel-size 4 --enable-expert-parallel"),
    ("vllm", None, Parallelism(1, 1, 4), "--data-parallel-size 4"),
    ("sglang", "0.5.22", Parallelism(2, 1, 4, 4), "--tp-size 8 --attn-dp-size 4 --ep-size 4"),
    ("sglang", "0.5.21", Parallelism(2, 1, 4),
     "--tp-size 8 --dp-size 4 --enable-dp-attention"),
    ("tensorrt-llm", None, Parallelism(1, 1, 8, 8),
     "--tp_size 8 --ep_size 8 --extra_llm_api_options options.yaml")])
def test_mixtures_are_spread_in_each_engines_words(engine, version, spread, expected):
    values = {"data": spread.data, "expert": spread.expert}
    assert line(engine, version, spread, **{key: value for key, value in values.items()
                                            if value > 1})[0].endswith(f"me/model {expected}")


def test_machines_of_a_replica_find_each_other():
    nodes = Nodes(2, "1", "10.0.0.1", False, "said")
    assert line("vllm", None, Parallelism(8, 2), nodes)[0].endswith(
        "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 20000 --headless")
    assert line("sglang", None, Parallelism(8, 2), nodes)[0].endswith(
        "--nnodes 2 --node-rank 1 --dist-init-addr 10.0.0.1:20000")
    assert "--headless" not in line("vllm", None, Parallelism(8, 2),
                                    nodes._replace(answers=True))[0]


@pytest.mark.parametrize(("version", "precision", "kv", "expected"), [
    ("0.19.0", "bf16", "bf16", "auto"), ("0.33.0", "fp16", "bf16", "auto"),
    ("0.10.2", "int4", "bf16", "auto"),
    ("0.33.0", "int4", "bf16", "bfloat16"), ("0.33.0", "fp32", "fp16", "float16"),
    ("0.33.0", "fp8", "bf16", "auto"), ("0.33.0", "fp32", "fp32", "auto"),
    ("0.33.0", "bf16", "int8", "int8_per_token_head"),
    ("0.20.0", "bf16", "fp4", "nvfp4"), ("0.33.0", "bf16", "int4", "int4_per_token_head")])
def test_vllm_names_the_cache_as_its_version_does(version, precision, kv, expected):
    text, _ = line("vllm", version, own_weights=True, precision=precision, kv_precision=kv)
    assert text.endswith(f"--kv-cache-dtype {expected}")


@pytest.mark.parametrize(("engine", "version", "arguments", "values", "message"), [
    ("vllm", "0.19.0", (), {"kv_precision": "int8"}, "vllm 0.19.0 has no KV cache in int8 beside "
     "weights in auto; expected bf16 or fp16 or fp8"),
    ("vllm", "0.8.0", (Parallelism(1, 1, 2),), {"data": 2}, "vllm 0.8.0 has no data-parallel "
     "attention .found data 2.; expected vllm 0.8.5 or later"),
    ("vllm", None, (Parallelism(1, 1, 8, 4),), {"data": 8, "expert": 4}, "4 groups of expert ranks "
     "among 8 ranks; expected expert 1 or 8"),
    ("vllm", "0.11.0", (Parallelism(8, 2), Nodes(2, "0", "a", True, "")), {},
     "vllm 0.11.0 has no replicas of 2 machines without Ray; expected vllm 0.11.1 or later"),
    ("sglang", None, (), {"kv_precision": "int8"}, "sglang 0.5.23 has no KV cache in int8"),
    ("tensorrt-llm", None, (), {"kv_precision": "int8"}, "tensorrt-llm 1.3.0 has no KV cache in "),
    ("tensorrt-llm", None, (Parallelism(2, 1, 2),), {"data": 2}, "2 groups of 2 ranks; expected "
     "tensor 1 beside data"),
    ("tensorrt-llm", None, (Parallelism(8, 2), Nodes(2, "0", "a", True, "")), {}, "needs MPI"),
    ("tensorrt-llm", None, (), {"precision": "fp8"}, "quantises nothing of me/model when it loads "
     "the weights; for fp8, state served_as"),
    ("vllm", None, (), {"precision": "int4"}, "vllm 0.33.0 makes only fp8 of me/model"),
    ("sglang", None, (), {"precision": "fp4"}, "sglang 0.5.23 makes only fp8 of me/model")])
def test_an_engine_refuses_what_its_version_does_not_know(engine, version, arguments, values,
                                                          message):
    with pytest.raises(InputError, match=f"^replicas.0.: .*{message}"):
        line(engine, version, *arguments, **values)


def test_a_cache_of_16_bits_has_the_format_of_the_model():
    for engine in ("vllm", "sglang"):
        text, _ = line(engine, None, precision="fp16", kv_precision="bf16")
        assert text.endswith("--dtype float16 --kv-cache-dtype auto")
    _, found = line("tensorrt-llm", None, precision="fp16", kv_precision="bf16")
    assert found.options_document() == {"dtype": "float16", "kv_cache_config": {"dtype": "auto"}}


def test_own_weights_may_have_any_format():
    for engine in KINDS:
        assert "quantization" not in line(engine, None, own_weights=True, precision="int4")[0]


@pytest.mark.parametrize(("version", "words"), [
    ("0.18.0", ("--swap-space", "4")), ("0.32.0", ("--disable-log-requests",)),
    ("0.32.0", ("--num-scheduler-steps=8",)),
    ("0.32.0", ("--kv-transfer-config", '{"kv_connector": "P2pNcclConnector"}'))])
def test_arguments_that_are_gone_are_refused(version, words):
    check_more("vllm", "0.9.0", words, "x")
    with pytest.raises(InputError, match=f"^x: vllm {version} no longer has "):
        check_more("vllm", version, words, "x")


def test_stated_arguments_replace_ours():
    _, found = line("vllm", None, max_num_seqs=7, port=9)
    more = with_more(found, ("--max-num-seqs=8", "--seed", "1"), "stated")
    assert more.argv == ["vllm", "serve", "me/model", "--port", "9", "--max-num-seqs=8", "--seed",
                         "1"]
    _, found = line("vllm", None, prefix_caching=False, max_num_seqs=7)
    more = with_more(found, ("--enable-prefix-caching", "--max_num_seqs", "8"), "stated")
    assert more.argv[3:] == ["--enable-prefix-caching", "--max_num_seqs", "8"]


def test_engines_without_command_lines_are_refused():
    assert check_engine("penstock-in-vllm", "x") == "vllm"
    with pytest.raises(InputError, match=r"x: 'atom' has no command line; expected one of: [^;]*$"):
        check_engine("atom", "x")


def test_described_engines_start_with_their_own_defaults():
    for engine in KINDS:
        assert engine_defaults(engine, CATALOG.accelerator("h100-80gb")).version == NEWEST[engine]
    assert since("0.10.0", "0.9.2")
    assert not since("0.9.1", "0.9.2")


MTP, NGRAM = Drafts("mtp", 3, None), Drafts("ngram", 4, None)
HEAD = Drafts("eagle3", 2, "me/head", ((1, 8, 2), (9, 64, 0)))


@pytest.mark.parametrize(("engine", "values", "words"), [
    ("vllm", {"role": "prefill"},
     '--kv-transfer-config {"kv_connector":"NixlConnector","kv_role":"kv_producer"}'),
    ("vllm", {"drafts": MTP}, '--speculative-config {"method":"mtp","num_speculative_tokens":3}'),
    ("vllm", {"drafts": HEAD}, '--speculative-config {"method":"eagle3","num_speculative_tokens":2,'
                               '"model":"me/head","num_speculative_tokens_per_batch_size":'
                               "[[1,8,2],[9,64,0]]}"),
    ("sglang", {"role": "decode"}, "--disaggregation-mode decode"),
    ("sglang", {"role": "prefill", "connector": "nixl", "side_port": 8999},
     "--disaggregation-mode prefill --disaggregation-transfer-backend nixl "
     "--disaggregation-bootstrap-port 8999"),
    ("sglang", {"drafts": MTP}, "--speculative-algorithm NEXTN --speculative-num-steps 3 "
                                "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4"),
    ("sglang", {"drafts": NGRAM},
     "--speculative-algorithm NGRAM --speculative-num-draft-tokens 5")])
def test_roles_and_drafts_in_the_words_of_each_engine(engine, values, words):
    assert line(engine, None, **values)[0].endswith(f"me/model {words}")


def test_roles_and_drafts_in_tensorrt_llm_are_options():
    _, found = line("tensorrt-llm", None, role="prefill", drafts=MTP)
    assert found.options_document() == {
        "cache_transceiver_config": {"backend": "DEFAULT"}, "disable_overlap_scheduler": True,
        "speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}
    assert line("tensorrt-llm", None, role="decode", connector="ucx")[1].options_document() == {
        "cache_transceiver_config": {"backend": "UCX"}}


def test_vllms_side_channel_is_in_its_environment():
    _, found = line("vllm", None, role="decode", connector="nixl", side_host="10.0.0.2",
                    side_port=5601)
    assert {name: one.value for name, one in found.environment.items()} == {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.2", "VLLM_NIXL_SIDE_CHANNEL_PORT": 5601}


@pytest.mark.parametrize(("engine", "version", "values", "why"), [
    ("vllm", "0.8.5", {"role": "prefill"}, "has no NIXL connector"),
    ("vllm", "0.32.0", {"role": "prefill", "connector": "mooncake"},
     "penstock pairs vllm by nixl; found disaggregation.connector mooncake"),
    ("sglang", "0.5.23", {"role": "prefill", "connector": "ucx"}, "sglang by nixl or mooncake"),
    ("tensorrt-llm", "1.3.0", {"role": "decode", "connector": "mooncake"}, "by nixl or ucx"),
    ("vllm", "0.20.0", {"drafts": HEAD}, "has no drafts by batch"),
    ("sglang", "0.5.23", {"drafts": HEAD}, "has no drafts by batch"),
    ("tensorrt-llm", "1.3.0", {"drafts": HEAD}, "has no drafts of eagle3 by batch")])
def test_a_version_without_roles_or_drafts_is_told(engine, version, values, why):
    with pytest.raises(InputError, match=why):
        line(engine, version, **values)
