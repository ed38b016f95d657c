"""Time to move the KV cache of a prompt from one replica to another."""

from dataclasses import dataclass

from penstock.core.hardware import Parallelism
from penstock.core.model import ModelSpec

FLOOR_S = 0.001
"""Time of a transfer without bytes: 0.6 ms for vLLM on 8 x 200 Gbit/s, 1.7 ms for SGLang
(kvcache-ai/Mooncake at 3b5a59413, docs/source/performance), fitted on their transfer times."""


@dataclass(frozen=True, slots=True)
class KvTransfer:
    """A path between two replicas: ``bytes_per_s`` of one sender or receiver, and ``latency_s`` of
    each transfer, in which others may move. With ``by_layer``, the layers that are computed move
    while the rest is computed."""

    bytes_per_s: float
    latency_s: float = FLOOR_S
    by_layer: bool = False

    def seconds(self, num_bytes: float) -> float:
        """Return the time of a transfer that begins when all bytes are there."""
        return self.latency_s + num_bytes / self.bytes_per_s

    def exposed_s(self, num_bytes: float, prefill_s: float, num_layers: int) -> float:
        """Return the time from the end of a prefill of ``prefill_s`` until the last byte has left,
        ``latency_s`` before it is there.

        By layer, the first layer moves once that layer is computed, and the last layer after the
        prefill, so at least its share of the transfer is seen.
        """
        whole_s = num_bytes / self.bytes_per_s
        if not self.by_layer:
            return whole_s
        hidden_s = prefill_s * (1.0 - 1.0 / num_layers)
        return max(whole_s / num_layers, whole_s - hidden_s)


def sent_bytes_per_token(model: ModelSpec, parallelism: Parallelism, kv_precision: str) -> float:
    """Return the bytes that all ranks of a replica send for one token of a prompt.

    Where there are more tensor ranks than heads of keys and values, ranks have copies of a head and
    each sends its own. Latent attention has one copy that is sent.
    """
    copies = 1.0
    if not model.kv_latent_size:
        copies = max(1.0, parallelism.tensor / model.num_kv_heads)
    return model.kv_bytes_per_token(kv_precision) * copies
