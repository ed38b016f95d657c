"""vLLM's own parser takes the command lines of `penstock commands`."""

from importlib.util import find_spec
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.engines.launch.starts import Start
from support.launched import DENSE, MIXTURE, random_starts, started, two_replicas

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None,
                       reason="vLLM is not installed; .ci/engines installs it in an environment "
                              "of its own"),
    pytest.mark.filterwarnings("default")]  # vLLM and torch have warnings of their own

ENGINE = "name: vllm, version: 0.32.0"


@pytest.fixture(scope="module")
def engine() -> str:
    import vllm

    return f"vllm:{vllm.__version__.partition('+')[0]}"


def parsed(start: Start) -> tuple[Any, Any]:
    """Namespace and engine arguments by vLLM's parser of ``vllm serve``, with its own checks."""
    from vllm import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
    words = start.line.argv
    assert words[:2] == ["vllm", "serve"]
    found = parser.parse_args(words[2:])
    validate_parsed_serve_args(found)
    found.model = found.model_tag
    return found, AsyncEngineArgs.from_cli_args(found)


@pytest.mark.parametrize(("model", "precision", "kv", "spread"), [
    (DENSE, "bf16", "bf16", "tensor: 1"), (DENSE, "bf16", "fp8", "tensor: 2"),
    (DENSE, "fp16", "fp16", "tensor: 4, pipeline: 2"), (DENSE, "fp8", "fp8", "tensor: 1"),
    (DENSE, "int4", "int8", "tensor: 1"), (DENSE, "fp4", "fp4", "tensor: 1"),
    (MIXTURE, "fp8", "bf16", "data: 8, expert: 8"), (MIXTURE, "fp8", "int4", "data: 8"),
    (MIXTURE, "bf16", "bf16", "tensor: 8, pipeline: 2, data: 2")])
def test_vllm_takes_every_kind_of_replica(engine: str, model: str, precision: str, kv: str,
                                          spread: str) -> None:
    text = two_replicas(ENGINE, model, precision, kv, spread)
    for start in started(text, engine, None):
        found, arguments = parsed(start)
        group = {"tensor": 1, "pipeline": 1, "data": 1, "expert": 1} | {
            key: int(value) for key, _, value in (part.partition(": ")
                                                  for part in spread.split(", "))}
        assert arguments.model == "me/weights"
        assert arguments.tensor_parallel_size == group["tensor"]
        assert arguments.pipeline_parallel_size == group["pipeline"]
        assert arguments.data_parallel_size == group["data"]
        assert arguments.enable_expert_parallel == (group["expert"] > 1)
        assert arguments.gpu_memory_utilization == 0.85
        assert arguments.max_num_seqs == 99
        assert arguments.max_num_batched_tokens == 4096
        assert arguments.enable_prefix_caching is False
        assert arguments.quantization == ("fp8" if precision == "fp8" else None)
        assert found.port == start.port
        assert found.headless == (start.rank > 0)


def test_vllm_takes_the_command_lines_of_random_plans(engine: str) -> None:
    num = 0
    for seed in range(40):
        made = random_starts(seed, engine)
        for start in made[0] if made is not None else ():
            num += 1
            _, arguments = parsed(start)
            group = made[1].replicas[start.placed.number].parallelism
            assert (arguments.tensor_parallel_size * arguments.pipeline_parallel_size
                    * arguments.data_parallel_size) == group.num_accelerators
    assert num > 20


@pytest.mark.parametrize("gone", [["--swap-space", "4"], ["--num-scheduler-steps", "8"],
                                  ["--disable-log-requests"]])
def test_the_parser_refuses_what_is_gone(gone: list[str]) -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    with pytest.raises(SystemExit):
        make_arg_parser(FlexibleArgumentParser()).parse_args(["m", *gone])


def test_a_replica_that_the_version_does_not_know_is_refused() -> None:
    text = two_replicas(ENGINE, DENSE, "bf16", "int8", "tensor: 1")
    with pytest.raises(InputError, match=r"vllm 0\.19\.0 has no KV cache in int8"):
        started(text, "vllm:0.19.0", None)


APART = """
name: apart
accelerators: [{name: h100-80gb}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 9}]
engine: {name: vllm, version: 0.32.0}
replicas:
  - {role: prefill, served_as: me/weights}
  - {role: decode, served_as: me/weights,
     speculation: {method: ngram, tokens: 3, acceptance: [0.5, 0.3, 0.2],
                   by_batch: [[1, 16, 3], [17, 256, 0]]}}
disaggregation: {transfer: {gb_per_s: 50}}
"""


def test_vllm_takes_roles_and_drafts(engine: str) -> None:
    prefill, decode = (parsed(start)[1] for start in started(APART, engine, None))
    assert prefill.kv_transfer_config.kv_connector == "NixlConnector"
    assert prefill.kv_transfer_config.kv_role == "kv_producer"
    assert prefill.speculative_config is None
    assert decode.kv_transfer_config.kv_role == "kv_consumer"
    assert decode.speculative_config == {
        "method": "ngram", "num_speculative_tokens": 3,
        "num_speculative_tokens_per_batch_size": [[1, 16, 3], [17, 256, 0]]}


def test_vllm_takes_room_for_adapters(engine: str) -> None:
    from vllm.config import LoRAConfig

    lora = "served_as: me/weights, lora: {max_loras: 3, max_cpu_loras: 40, max_rank: 24}}"
    text = APART.replace("role: prefill, served_as: me/weights}", lora, 1)
    start = started(text[:text.index("  - {role: decode")], engine, None)[0]
    found = parsed(start)[1]
    assert found.enable_lora
    room = LoRAConfig(max_loras=found.max_loras, max_cpu_loras=found.max_cpu_loras,
                      max_lora_rank=found.max_lora_rank)  # which checks the rank
    assert (room.max_loras, room.max_cpu_loras, room.max_lora_rank) == (3, 40, 32)
