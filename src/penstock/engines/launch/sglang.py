"""Command lines of SGLang.

Flags and formats were read in the wheels of SGLang 0.5.16 to 0.5.23 (srt/server_args.py,
srt/arg_groups).
"""

from penstock.catalog.engines import since
from penstock.core.errors import InputError
from penstock.engines.launch.values import (
    PLAIN_FORMATS,
    Argument,
    CommandLine,
    Key,
    Launch,
    check_connector,
    check_weights,
    follows_weights,
    plain_format,
    refused,
    stated,
)

NAME = "sglang"
IMAGE = "lmsysorg/sglang:v{version}"
PORT = 30000

_ATTENTION_SINCE = "0.5.22"
"""First version with ``--attn-dp-size``: before, ``--dp-size`` beside ``--enable-dp-attention``."""

_KV_FORMATS = {"fp8": ("fp8_e5m2", "0.4.0"), "bf16": ("bf16", "0.5.16"),
               "fp4": ("nvfp4", "0.5.16")}
"""SGLang's names of the formats of the KV cache, and the first version that was seen to take each.
e5m2 needs no scales of the checkpoint."""

_ALGORITHMS = {"mtp": "NEXTN", "ngram": "NGRAM", "eagle": "EAGLE", "eagle3": "EAGLE3",
               "draft_model": "STANDALONE"}

GONE: dict[str, str] = {}
"""Words of earlier versions' arguments, and the first version that was seen without each."""

_FLAGS: dict[Key, str] = {
    "served_name": "--served-model-name", "host": "--host", "port": "--port",
    "pipeline": "--pp-size", "expert": "--ep-size", "memory_fraction": "--mem-fraction-static",
    "context_tokens": "--context-length", "max_num_seqs": "--max-running-requests",
    "block_tokens": "--page-size"}

_MASTER_PORT = "20000"


def command_line(launch: Launch) -> CommandLine:
    """Return SGLang's command line. Raises InputError for what its version does not know."""
    arguments = [Argument("--model-path", *launch.model), *_attention(launch),
                 *stated(launch, _FLAGS), *_steps(launch), *_formats(launch), *_switches(launch)]
    return CommandLine(("python3", "-m", "sglang.launch_server"), (*arguments, *_nodes(launch)))


def _attention(launch: Launch) -> list[Argument]:
    """Return tensor and data parallelism. SGLang's tensor degree counts the ranks of all data ranks
    together, which its attention shares among them."""
    spread, settings = launch.parallelism, launch.settings
    found = []
    said = settings.get("tensor") or settings.get("data")
    if said is not None:
        found.append(Argument("--tp-size", str(spread.tensor * spread.data), said.reason))
    if "data" in settings and spread.data > 1:
        reason = settings["data"].reason
        if since(launch.version, _ATTENTION_SINCE):
            found.append(Argument("--attn-dp-size", str(spread.data), reason))
        else:
            found += [Argument("--dp-size", str(spread.data), reason),
                      Argument("--enable-dp-attention", None, reason)]
    return found


def _steps(launch: Launch) -> list[Argument]:
    settings = launch.settings
    if "chunked" in settings and not settings["chunked"].value:
        found = [Argument("--chunked-prefill-size", "-1", settings["chunked"].reason)]
        return found + stated(launch, {"step_tokens": "--max-prefill-tokens"})
    found = stated(launch, {"step_tokens": "--chunked-prefill-size"})
    if "mixed" in settings and settings["mixed"].value:
        found.append(Argument("--enable-mixed-chunk", None, settings["mixed"].reason))
    return found


def _formats(launch: Launch) -> list[Argument]:
    found = []
    precision, kv = check_weights(NAME, launch, ("fp8",)), launch.settings.get("kv_precision")
    if precision is not None:
        reason = launch.settings["precision"].reason
        if precision in PLAIN_FORMATS:
            found.append(Argument("--dtype", PLAIN_FORMATS[precision], reason))
        elif precision == "fp8":
            found.append(Argument("--quantization", "fp8", reason))
    if kv is not None:
        computed = plain_format(precision)
        name, first = _KV_FORMATS.get(kv.value, ("", ""))
        if follows_weights(kv.value, precision):
            name = "auto"
        elif not name or not since(launch.version, first):
            if kv.value != computed:
                raise refused(NAME, launch, f"KV cache in {kv.value} beside weights in "
                              f"{precision or 'auto'}", f"{computed} or fp8")
            name = "auto"
        found.append(Argument("--kv-cache-dtype", name, kv.reason))
    return found


def _switches(launch: Launch) -> list[Argument]:
    """Return flags without values. Radix cache and graphs are on unless a flag turns them off."""
    settings = launch.settings
    found = []
    if "prefix_caching" in settings and not settings["prefix_caching"].value:
        found.append(Argument("--disable-radix-cache", None, settings["prefix_caching"].reason))
    if "eager" in settings and settings["eager"].value:
        found.append(Argument("--disable-cuda-graph", None, settings["eager"].reason))
    if "role" in settings:
        found.append(Argument("--disaggregation-mode", *settings["role"]))
        if "connector" in settings:
            found.append(Argument("--disaggregation-transfer-backend", check_connector(
                NAME, launch, ("nixl", "mooncake")), settings["connector"].reason))
        found += stated(launch, {"side_port": "--disaggregation-bootstrap-port"})
    if "drafts" in settings:
        found += _drafts(launch)
    if "adapters" in settings:
        found += _adapters(launch)
    if "metrics" in settings:
        found.append(Argument("--enable-metrics", None, settings["metrics"].reason))
    return found


def _drafts(launch: Launch) -> list[Argument]:
    """Return the flags of a chain of drafts."""
    drafts, reason = launch.settings["drafts"]
    if drafts.by_batch:
        raise refused(NAME, launch, "drafts by batch", "speculation without by_batch")
    values = {"--speculative-algorithm": _ALGORITHMS[drafts.method]}
    if drafts.model is not None:
        values["--speculative-draft-model-path"] = drafts.model
    if drafts.method != "ngram":
        values |= {"--speculative-num-steps": str(drafts.tokens),
                   "--speculative-eagle-topk": "1"}
    values["--speculative-num-draft-tokens"] = str(drafts.tokens + 1)
    return [Argument(flag, value, reason) for flag, value in values.items()]


def _adapters(launch: Launch) -> list[Argument]:
    """Return the room for adapters, which may change any module: their files are not read here."""
    room, reason = launch.settings["adapters"]
    values = {"--enable-lora": None, "--max-loras-per-batch": str(room.max_loras),
              "--max-loaded-loras": str(room.most_loaded), "--max-lora-rank": str(room.max_rank),
              "--lora-target-modules": "all"}
    wait = launch.settings.get("adapter_wait_s")
    if wait is not None and not wait.value:
        raise InputError(f"{launch.place}: sglang takes an adapter_wait_s of 0 for no bound at "
                         "all; expected more than 0")
    return [*(Argument(flag, value, reason) for flag, value in values.items()),
            *stated(launch, {"adapter_wait_s": "--lora-drain-wait-threshold"})]


def _nodes(launch: Launch) -> list[Argument]:
    nodes = launch.nodes
    if nodes is None:
        return []
    return [Argument("--nnodes", str(nodes.machines), nodes.reason),
            Argument("--node-rank", nodes.rank, nodes.reason),
            Argument("--dist-init-addr", f"{nodes.leader}:{_MASTER_PORT}", nodes.reason)]
