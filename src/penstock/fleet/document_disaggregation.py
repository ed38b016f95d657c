"""The section `disaggregation` of the fleet file."""

from typing import Literal

from penstock.fleet.fields import CountOrZero, GbPerS, NotNegative, Section, described

RoleName = Literal["both", "prefill", "decode"]
ConnectorName = Literal["nixl", "mooncake", "ucx"]


class TransferSection(Section):
    """Path of a KV cache from one replica to another."""

    gb_per_s: GbPerS = described(
        "Rate at which one replica sends or receives, GB/s (1e9 bytes): of all its network cards "
        "together, as measured.", 87, default=...)
    latency_s: NotNegative | None = described(
        "Time of each transfer besides its bytes, seconds; left out, 0.001.", 0.002)
    by_layer: bool = described(
        "Whether layers move as soon as they are computed (push connectors), or the whole cache "
        "moves after the prompt (pull connectors).", True, default=False)


class DisaggregationSection(Section):
    """How prompts move from replicas with `role: prefill` to those with `role: decode`."""

    transfer: TransferSection = described("Path of the KV cache.", {"gb_per_s": 87}, default=...)
    min_prompt_tokens: CountOrZero = described(
        "Prompts with fewer tokens are computed where they are decoded.", 2048, default=0)
    connector: ConnectorName | None = described(
        "By what engines that Penstock starts, or whose command lines it writes, move KV caches: "
        "nixl (vLLM, SGLang, TensorRT-LLM), mooncake (SGLang) or ucx (TensorRT-LLM); left out, "
        "nixl for vLLM and the engine's own default for others.", "nixl")
