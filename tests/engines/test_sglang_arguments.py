"""SGLang's own parser takes the command lines of `penstock commands`.

SGLang for GPUs needs gigabytes of CUDA packages. Its parser needs torch, msgspec and orjson, which
vLLM's environment has, so SGLang is installed there without what it requires. The package's own
``__init__`` imports the rest; a bare package stands in its place, and the modules below are
SGLang's.
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from penstock.engines.launch.starts import Start
from support.launched import DENSE, MIXTURE, random_starts, started, two_replicas

SPEC = find_spec("sglang")
pytestmark = [
    pytest.mark.skipif(SPEC is None or find_spec("torch") is None,
                       reason="SGLang is not installed; .ci/engines installs it beside vLLM, "
                              "without what it requires"),
    pytest.mark.filterwarnings("default")]
ENGINE = "name: sglang"


@pytest.fixture(scope="module")
def engine() -> str:
    try:
        return f"sglang:{version('sglang')}"
    except PackageNotFoundError:
        pytest.skip("SGLang has no version")


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    assert SPEC is not None
    package = ModuleType("sglang")
    package.__path__ = list(SPEC.submodule_search_locations or ())
    sys.modules["sglang"] = package
    from sglang.srt.server_args import ServerArgs

    found = argparse.ArgumentParser(exit_on_error=False)
    ServerArgs.add_cli_args(found)
    return found


def parsed(parser: argparse.ArgumentParser, start: Start) -> Any:
    words = start.line.argv
    assert words[:3] == ["python3", "-m", "sglang.launch_server"]
    return parser.parse_args(words[3:])


@pytest.mark.parametrize(("model", "precision", "kv", "spread"), [
    (DENSE, "bf16", "bf16", "tensor: 1"), (DENSE, "bf16", "fp8", "tensor: 2"),
    (DENSE, "fp16", "fp16", "tensor: 4, pipeline: 2"), (DENSE, "fp8", "fp8", "tensor: 1"),
    (DENSE, "int4", "bf16", "tensor: 1"), (DENSE, "fp4", "fp4", "tensor: 1"),
    (MIXTURE, "fp8", "bf16", "data: 8, expert: 8"), (MIXTURE, "fp8", "bf16", "data: 8, expert: 4"),
    (MIXTURE, "bf16", "bf16", "tensor: 8, pipeline: 2, data: 2")])
def test_sglang_takes_every_kind_of_replica(engine: str, parser: argparse.ArgumentParser,
                                            model: str, precision: str, kv: str,
                                            spread: str) -> None:
    text = two_replicas(ENGINE, model, precision, kv, spread)
    group = {"tensor": 1, "pipeline": 1, "data": 1, "expert": 1} | {
        key: int(value) for key, _, value in (part.partition(": ") for part in spread.split(", "))}
    for start in started(text, engine, None):
        found = parsed(parser, start)
        assert found.model_path == "me/weights"
        assert found.tp_size == group["tensor"] * group["data"]
        assert found.pp_size == group["pipeline"]
        assert found.attn_dp_size == group["data"]
        assert found.ep_size == group["expert"]
        assert found.mem_fraction_static == 0.85
        assert found.max_running_requests == 99
        assert found.chunked_prefill_size == 4096
        assert found.disable_radix_cache
        assert found.port == start.port
        assert found.node_rank == start.rank


def test_sglang_takes_the_old_spelling_of_data_parallel_attention(
        parser: argparse.ArgumentParser) -> None:
    text = two_replicas(ENGINE, MIXTURE, "fp8", "bf16", "data: 8")
    found = parsed(parser, started(text, "sglang:0.5.21", None)[0])
    assert found.dp_size == 8
    assert found.enable_dp_attention


def test_sglang_takes_the_command_lines_of_random_plans(
        engine: str, parser: argparse.ArgumentParser) -> None:
    num = 0
    for seed in range(40):
        made = random_starts(seed, engine)
        for start in made[0] if made is not None else ():
            num += 1
            found = parsed(parser, start)
            group = made[1].replicas[start.placed.number].parallelism
            assert found.tp_size * found.pp_size == group.num_accelerators
    assert num > 20


def test_sglang_takes_room_for_adapters(engine: str, parser: argparse.ArgumentParser) -> None:
    text = two_replicas(ENGINE, DENSE, "bf16", "bf16", "tensor: 1").replace(
        "served_as: me/weights", "served_as: me/weights, lora: {max_loras: 3, max_rank: 24}")
    found = parsed(parser, started(text, engine, None)[0])
    assert found.enable_lora
    assert (found.max_loras_per_batch, found.max_loaded_loras, found.max_lora_rank) == (3, 3, 24)
    assert found.lora_target_modules == ["all"]
    assert found.lora_drain_wait_threshold == 30.0  # as sarathi has it
