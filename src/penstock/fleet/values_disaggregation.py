"""How prompts move between the replicas that compute them and those that decode."""

from dataclasses import dataclass

from penstock.perf.kv_transfer import KvTransfer


@dataclass(frozen=True, slots=True)
class DisaggregationOptions:
    """The path of a KV cache between two replicas. A prompt of fewer than ``min_prompt_tokens``
    stays on the replica that decodes its answer."""

    transfer: KvTransfer
    min_prompt_tokens: int = 0
