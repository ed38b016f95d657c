"""Command lines of TensorRT-LLM: flags of ``trtllm-serve``, and its file of options.

Flags are those of tensorrt_llm/commands/serve.py (NVIDIA/TensorRT-LLM@00209af), keys those of
``KvCacheConfig`` and ``TorchLlmArgs`` in the documentation of 1.3.0rc27. Neither was tried on a
GPU.
"""

from penstock.core.errors import InputError
from penstock.engines.launch.values import (
    PLAIN_FORMATS,
    Argument,
    CommandLine,
    Key,
    Launch,
    Option,
    Setting,
    check_connector,
    check_weights,
    follows_weights,
    plain_format,
    refused,
    stated,
)
from penstock.policy.route.roles import PREFILL

NAME = "tensorrt-llm"
IMAGE = "nvcr.io/nvidia/tensorrt-llm/release:{version}"
PORT = 8000

GONE: dict[str, str] = {}
"""Words of earlier versions' arguments, and the first version that was seen without each."""

_FLAGS: dict[Key, str] = {
    "host": "--host", "port": "--port", "pipeline": "--pp_size", "expert": "--ep_size",
    "memory_fraction": "--kv_cache_free_gpu_memory_fraction", "context_tokens": "--max_seq_len",
    "max_num_seqs": "--max_batch_size", "step_tokens": "--max_num_tokens"}

_OPTIONS: dict[Key, tuple[str, ...]] = {
    "chunked": ("enable_chunked_prefill",),
    "prefix_caching": ("kv_cache_config", "enable_block_reuse"),
    "block_tokens": ("kv_cache_config", "tokens_per_block")}

_KV_FORMATS = {"fp8": "fp8", "fp4": "nvfp4"}
_DECODING = {"mtp": ("MTP", "num_nextn_predict_layers"), "ngram": ("NGram", "max_draft_len")}


def command_line(launch: Launch) -> CommandLine:
    """Return TensorRT-LLM's command line and its file of options. Raises InputError for what the
    engine does not know.

    The commit has no flag for the name by which the engine calls the model.
    """
    if launch.nodes is not None:
        raise InputError(f"{launch.place}: tensorrt-llm needs MPI for several machines, which "
                         "penstock does not set up; expected accelerators of one machine, or "
                         "adopt your own workload")
    if "adapters" in launch.settings:
        raise InputError(f"{launch.place}.lora: tensorrt-llm loads no adapters while it runs, as "
                         "`penstock serve` asks; expected vllm or sglang")
    options = tuple(_options(launch))
    arguments = [Argument("", *launch.model), *_ranks(launch), *stated(launch, _FLAGS)]
    if options:
        arguments.append(Argument("--extra_llm_api_options", launch.options_file,
                                  "for options that have no flag"))
    return CommandLine(("trtllm-serve", "serve"), tuple(arguments), options)


def _ranks(launch: Launch) -> list[Argument]:
    spread, settings = launch.parallelism, launch.settings
    said = settings.get("tensor") or settings.get("data")
    if said is None:
        return []
    return [Argument("--tp_size", str(spread.tensor * spread.data), said.reason)]


def _options(launch: Launch) -> list[Option]:
    settings, spread = launch.settings, launch.parallelism
    found = []
    if spread.data > 1:
        if spread.tensor > 1:
            raise refused(NAME, launch, f"data-parallel attention of {spread.data} groups of "
                          f"{spread.tensor} ranks", "tensor 1 beside data")
        found.append(Option(("enable_attention_dp",), True, settings["data"].reason))
    precision, kv = check_weights(NAME, launch, ()), settings.get("kv_precision")
    if precision is not None and precision in PLAIN_FORMATS:
        found.append(Option(("dtype",), PLAIN_FORMATS[precision], settings["precision"].reason))
    if kv is not None:
        computed = plain_format(precision)
        if kv.value not in (computed, *_KV_FORMATS) and not follows_weights(kv.value, precision):
            raise refused(NAME, launch, f"KV cache in {kv.value} beside weights in "
                          f"{precision or 'auto'}", f"{computed}, fp8 or fp4")
        found.append(Option(("kv_cache_config", "dtype"), _KV_FORMATS.get(kv.value, "auto"),
                            kv.reason))
    return found + _features(launch) + [Option(keys, settings[key].value, settings[key].reason)
                    for key, keys in _OPTIONS.items() if key in settings]


def _features(launch: Launch) -> list[Option]:
    """Return the transfer of KV caches of a replica with a role, and drafts."""
    settings = launch.settings
    found = []
    if "role" in settings:
        role, reason = settings["role"]
        backend = Setting("DEFAULT", reason)
        if "connector" in settings:
            name = check_connector(NAME, launch, ("nixl", "ucx"))
            backend = Setting(name.upper(), settings["connector"].reason)
        found.append(Option(("cache_transceiver_config", "backend"), *backend))
        if role == PREFILL:
            found.append(Option(("disable_overlap_scheduler",), True, reason))
    if "drafts" in settings:
        drafts, reason = settings["drafts"]
        if drafts.method not in _DECODING or drafts.by_batch:
            raise refused(NAME, launch, f"drafts of {drafts.method}"
                          + (" by batch" if drafts.by_batch else ""), "mtp or ngram")
        kind, length = _DECODING[drafts.method]
        found += [Option(("speculative_config", "decoding_type"), kind, reason),
                  Option(("speculative_config", length), drafts.tokens, reason)]
    return found
