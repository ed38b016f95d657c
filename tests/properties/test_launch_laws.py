"""Laws of command lines: a small model of each engine's parser takes what random plans need."""

import json
from collections.abc import Callable, Mapping
from math import prod

import pytest

from penstock.engines.launch.starts import Start
from penstock.fleet.marked_yaml import read_yaml
from penstock.fleet.write import yaml_text
from support.launched import ENGINES, random_starts

Check = Callable[[str], object]
SEEDS = range(60)


def whole(text: str) -> int:
    assert int(text) > 0
    return int(text)


def rank(text: str) -> int:
    assert int(text) >= 0
    return int(text)


def share(text: str) -> float:
    assert 0.0 < float(text) <= 1.0
    return float(text)


def one_of(*names: str) -> Check:
    def check(text: str) -> str:
        assert text in names
        return text
    return check


DTYPES = one_of("float16", "bfloat16", "float32")
PARSERS: Mapping[str, Mapping[str, Check | None]] = {
    "vllm": {
        "--served-model-name": str, "--port": whole, "--tensor-parallel-size": whole,
        "--pipeline-parallel-size": whole, "--data-parallel-size": whole,
        "--enable-expert-parallel": None, "--dtype": DTYPES, "--quantization": one_of("fp8"),
        "--kv-cache-dtype": one_of("auto", "bfloat16", "float16", "fp8", "nvfp4",
                                   "int8_per_token_head", "int4_per_token_head"),
        "--max-model-len": whole, "--max-num-seqs": whole, "--max-num-batched-tokens": whole,
        "--gpu-memory-utilization": share, "--block-size": whole, "--enable-prefix-caching": None,
        "--no-enable-prefix-caching": None, "--no-enable-chunked-prefill": None, "--nnodes": whole,
        "--node-rank": rank, "--master-addr": str, "--master-port": whole, "--headless": None},
    "sglang": {
        "--model-path": str, "--served-model-name": str, "--port": whole, "--tp-size": whole,
        "--pp-size": whole, "--attn-dp-size": whole, "--ep-size": whole, "--dtype": DTYPES,
        "--quantization": one_of("fp8"),
        "--kv-cache-dtype": one_of("auto", "bf16", "fp8_e5m2", "nvfp4"),
        "--context-length": whole, "--max-running-requests": whole, "--chunked-prefill-size": int,
        "--enable-mixed-chunk": None,
        "--max-prefill-tokens": whole, "--mem-fraction-static": share, "--page-size": whole,
        "--disable-radix-cache": None, "--enable-metrics": None, "--nnodes": whole,
        "--node-rank": rank, "--dist-init-addr": str},
    "tensorrt-llm": {
        "--port": whole, "--tp_size": whole, "--pp_size": whole, "--ep_size": whole,
        "--max_seq_len": whole, "--max_batch_size": whole, "--max_num_tokens": whole,
        "--kv_cache_free_gpu_memory_fraction": share, "--extra_llm_api_options": str}}
DEGREES = {"vllm": ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"),
           "sglang": ("--tp-size", "--pp-size"), "tensorrt-llm": ("--tp_size", "--pp_size")}


def parsed(start: Start) -> dict[str, object]:
    """Values by flag, of a parser that takes each flag once."""
    flags, found = PARSERS[start.engine], dict[str, object]()
    words = iter(start.line.argv[len(start.line.program):])
    for word in words:
        if not word.startswith("--"):
            assert "" not in found
            found[""] = word
            continue
        assert word not in found
        check = flags[word]
        found[word] = True if check is None else check(next(words))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_parser_takes_the_command_lines_of_random_plans(engine: str) -> None:
    num = 0
    for seed in SEEDS:
        made = random_starts(seed, engine)
        if made is None:
            continue
        found, fleet = made
        for start in found:
            num += 1
            group, values = fleet.replicas[start.placed.number], parsed(start)
            degrees = prod(values.get(flag, 1) for flag in DEGREES[start.engine])
            assert degrees == group.parallelism.num_accelerators
            assert len(start.placed.devices) * len(start.placed.machines) == degrees
            assert all(argument.reason for argument in start.line.arguments)
            options = start.line.options_document()
            assert read_yaml(yaml_text(options), "options").data == options or not options
    assert num > 20


@pytest.mark.parametrize("engine", ENGINES)
def test_no_two_replicas_share_a_device_or_a_port(engine: str) -> None:
    for seed in SEEDS:
        made = random_starts(seed, engine)
        if made is None:
            continue
        found, fleet = made
        devices = [(start.machine, device) for start in found for device in start.placed.devices]
        ports = [(start.machine, start.port) for start in found if start.rank == 0]
        assert len(set(devices)) == len(devices)
        assert len(set(ports)) == len(ports)
        for start in found:
            most = fleet.replicas[start.placed.number].accelerator.max_per_node
            assert max(start.placed.devices) < most
            json.dumps(start.line.argv)
