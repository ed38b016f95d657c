"""How prompts move between the replicas that compute them and those that decode."""

from dataclasses import dataclass

from penstock.perf.kv_transfer import KvTransfer

BOOTSTRAP_PORT = 8998
"""Port at which SGLang's engines with ``--disaggregation-mode prefill`` meet the others."""


@dataclass(frozen=True, slots=True)
class DisaggregationOptions:
    """The path of a KV cache between two replicas. A prompt of fewer than ``min_prompt_tokens``
    stays on the replica that decodes its answer. ``connector`` is the software by which engines
    move KV caches, None for the engine's own choice."""

    transfer: KvTransfer
    min_prompt_tokens: int = 0
    connector: str | None = None
