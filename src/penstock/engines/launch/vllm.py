"""Command lines of vLLM.

Flags and formats were read in the wheels of vLLM 0.8.0 to 0.32.0 (engine/arg_utils.py,
config/cache.py): the versions below are the first in which each was seen.
"""

import json
from collections.abc import Mapping
from typing import Any

from penstock.catalog.engines import since
from penstock.engines.launch.values import (
    PLAIN_FORMATS,
    Argument,
    CommandLine,
    Key,
    Launch,
    Setting,
    check_connector,
    check_weights,
    follows_weights,
    plain_format,
    refused,
    stated,
)

NAME = "vllm"
IMAGE = "vllm/vllm-openai:v{version}"
PORT = 8000

_DATA_SINCE, _NODES_SINCE = "0.8.5", "0.11.1"
_SIDE_CHANNEL: dict[Key, str] = {"side_host": "VLLM_NIXL_SIDE_CHANNEL_HOST",
                                "side_port": "VLLM_NIXL_SIDE_CHANNEL_PORT"}
SIDE_PORT = 5600
_KV_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
_NIXL_SINCE, _BY_BATCH_SINCE = "0.9.0", "0.32.0"
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Highest ranks of adapters that vLLM can be started for (config/lora.py)."""

_KV_FORMATS = {"bf16": ("bfloat16", "0.11.0"), "fp16": ("float16", "0.18.0"),
               "fp8": ("fp8", "0.8.0"), "int8": ("int8_per_token_head", "0.20.0"),
               "fp4": ("nvfp4", "0.20.0"), "int4": ("int4_per_token_head", "0.25.0")}
"""vLLM's names of the formats of the KV cache, and the first version that takes each."""

GONE = {"--use-v2-block-manager": "0.10.0", "--num-scheduler-steps": "0.10.2",
        "--preemption-mode": "0.11.0", "--guided-decoding-backend": "0.12.0",
        "--cuda-graph-sizes": "0.14.0", "--swap-space": "0.18.0",
        "--disable-log-requests": "0.18.0", "P2pNcclConnector": "0.24.0"}
"""Words of earlier versions' arguments, and the first version that was seen without each."""

_FLAGS: dict[Key, str] = {
    "served_name": "--served-model-name", "host": "--host", "port": "--port",
    "tensor": "--tensor-parallel-size", "pipeline": "--pipeline-parallel-size",
    "data": "--data-parallel-size", "memory_fraction": "--gpu-memory-utilization",
    "context_tokens": "--max-model-len", "max_num_seqs": "--max-num-seqs",
    "step_tokens": "--max-num-batched-tokens", "block_tokens": "--block-size"}

_SWITCHES: dict[Key, tuple[str, str]] = {
    "chunked": ("--enable-chunked-prefill", "--no-enable-chunked-prefill"),
    "prefix_caching": ("--enable-prefix-caching", "--no-enable-prefix-caching"),
    "eager": ("--enforce-eager", "--no-enforce-eager")}

_SCHEDULER = "penstock.engines.vllm.scheduler.PenstockAsyncScheduler"
_MASTER_PORT = "20000"


def command_line(launch: Launch) -> CommandLine:
    """Return vLLM's command line. Raises InputError for what its version does not know."""
    settings = launch.settings
    arguments = [Argument("", *launch.model), *stated(launch, _FLAGS), *_experts(launch),
                 *_formats(launch)]
    for key, (on, off) in _SWITCHES.items():
        if key in settings:
            arguments.append(Argument(on if settings[key].value else off, None,
                                      settings[key].reason))
    if "scheduler" in settings:
        arguments += [Argument("--scheduler-cls", _SCHEDULER, settings["scheduler"].reason),
                      Argument("--additional-config", *settings["scheduler"])]
    environment = {name: settings[key] for key, name in _SIDE_CHANNEL.items() if key in settings}
    if "adapters" in settings:
        arguments += _adapters(launch)
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = Setting(
            "1", "`penstock serve` loads adapters while the engine runs")
    return CommandLine((NAME, "serve"), (*arguments, *_features(launch), *_nodes(launch)),
                       environment=environment)


def _features(launch: Launch) -> list[Argument]:
    """Return the KV connector of a replica with a role, and drafts."""
    found = []
    if "role" in launch.settings:
        if not since(launch.version, _NIXL_SINCE):
            raise refused(NAME, launch, "NIXL connector", f"vllm {_NIXL_SINCE} or later")
        if "connector" in launch.settings:
            check_connector(NAME, launch, ("nixl",))
        found.append(Argument("--kv-transfer-config", _json(
            {"kv_connector": "NixlConnector", "kv_role": _KV_ROLES[launch.settings["role"].value]}),
            launch.settings["role"].reason))
    if "drafts" in launch.settings:
        drafts, reason = launch.settings["drafts"]
        values = {"method": drafts.method, "num_speculative_tokens": drafts.tokens}
        if drafts.model is not None:
            values["model"] = drafts.model
        if drafts.by_batch:
            if not since(launch.version, _BY_BATCH_SINCE):
                raise refused(NAME, launch, "drafts by batch", f"vllm {_BY_BATCH_SINCE} or later")
            values["num_speculative_tokens_per_batch_size"] = [list(one) for one in drafts.by_batch]
        found.append(Argument("--speculative-config", _json(values), reason))
    return found


def _adapters(launch: Launch) -> list[Argument]:
    """Return the room for adapters. vLLM takes only some ranks as the highest."""
    room, reason = launch.settings["adapters"]
    rank = next((rank for rank in _LORA_RANKS if rank >= room.max_rank), None)
    if rank is None:
        raise refused(NAME, launch, f"adapters of rank {room.max_rank}",
                      f"lora: {{max_rank: {_LORA_RANKS[-1]}}} or less")
    values = {"--enable-lora": None, "--max-loras": str(room.max_loras),
              "--max-cpu-loras": str(room.most_loaded), "--max-lora-rank": str(rank)}
    return [Argument(flag, value, reason) for flag, value in values.items()]


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _experts(launch: Launch) -> list[Argument]:
    """Return how a mixture's experts are spread. vLLM has two ways: all ranks split every expert,
    or each rank holds whole experts of its own."""
    spread = launch.parallelism
    if spread.data > 1 and not since(launch.version, _DATA_SINCE):
        raise refused(NAME, launch, f"data-parallel attention (found data {spread.data})",
                      f"vllm {_DATA_SINCE} or later")
    ranks = spread.tensor * spread.data
    if spread.expert not in (1, ranks):
        raise refused(NAME, launch, f"{spread.expert} groups of expert ranks among {ranks} ranks",
                      f"expert 1 or {ranks}")
    if spread.expert == 1:
        return []
    return [Argument("--enable-expert-parallel", None, launch.settings["expert"].reason)]


def _formats(launch: Launch) -> list[Argument]:
    """Return vLLM's names of the number formats. A quantised checkpoint states its own format."""
    found = []
    precision = check_weights(NAME, launch, ("fp8",))
    if precision is not None:
        reason = launch.settings["precision"].reason
        if precision in PLAIN_FORMATS:
            found.append(Argument("--dtype", PLAIN_FORMATS[precision], reason))
        elif precision == "fp8":
            found.append(Argument("--quantization", "fp8", reason))
    kv = launch.settings.get("kv_precision")
    if kv is not None:
        found.append(Argument("--kv-cache-dtype", _kv_format(launch, kv.value, precision),
                              kv.reason))
    return found


def _kv_format(launch: Launch, kv: str, precision: str | None) -> str:
    if follows_weights(kv, precision):
        return "auto"
    name, first = _KV_FORMATS.get(kv, ("", ""))
    if name and since(launch.version, first):
        return name
    computed = plain_format(precision)
    if kv == computed:
        return "auto"
    known = [format_ for format_, (_, first) in _KV_FORMATS.items() if since(launch.version, first)]
    raise refused(NAME, launch, f"KV cache in {kv} beside weights in {precision or 'auto'}",
                  " or ".join(dict.fromkeys((computed, *known))))


def _nodes(launch: Launch) -> list[Argument]:
    nodes = launch.nodes
    if nodes is None:
        return []
    if not since(launch.version, _NODES_SINCE):
        raise refused(NAME, launch, f"replicas of {nodes.machines} machines without Ray",
                      f"vllm {_NODES_SINCE} or later")
    found = [Argument("--nnodes", str(nodes.machines), nodes.reason),
             Argument("--node-rank", nodes.rank, nodes.reason),
             Argument("--master-addr", nodes.leader, nodes.reason),
             Argument("--master-port", _MASTER_PORT, nodes.reason)]
    return found if nodes.answers else [*found, Argument("--headless", None, nodes.reason)]
