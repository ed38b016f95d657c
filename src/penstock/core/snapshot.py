"""State of one replica as seen from outside, with the time of observation."""

from typing import Final, NamedTuple

from penstock.core.value import Value


class QueuedWork(NamedTuple):
    """Work left for one request on a replica; ``output_tokens_left`` is a prediction."""

    prompt_tokens_left: int
    context_tokens: int
    output_tokens_left: float


class ReplicaSnapshot(Value):
    """State of a replica as last observed. A stale or missing snapshot means unknown, never idle.

    ``queued_prompt_tokens`` counts prompt tokens not yet computed, of waiting and running requests.
    ``pending_output_tokens`` are the expected remaining output tokens of its requests. ``speed`` is
    relative to the fastest replica of its model. ``queue`` lists its requests in order of service,
    where the routing policy needs it. ``load_s`` is the expected time to load the model, 0 where it
    is loaded.
    """

    __match_args__ = ("replica_id", "model", "observed_at", "num_waiting", "num_running",
                      "queued_prompt_tokens", "kv_used_tokens", "kv_total_tokens",
                      "service_classes", "speed", "pending_output_tokens", "queue", "load_s")

    def __init__(self, replica_id: int, model: str, observed_at: float, num_waiting: int,
                 num_running: int, queued_prompt_tokens: int, kv_used_tokens: int,
                 kv_total_tokens: int, service_classes: frozenset[str] | None = None,
                 speed: float = 1.0, pending_output_tokens: float = 0.0,
                 queue: tuple[QueuedWork, ...] = (), load_s: float = 0.0) -> None:
        self.replica_id: Final = replica_id
        self.model: Final = model
        self.observed_at: Final = observed_at
        self.num_waiting: Final = num_waiting
        self.num_running: Final = num_running
        self.queued_prompt_tokens: Final = queued_prompt_tokens
        self.kv_used_tokens: Final = kv_used_tokens
        self.kv_total_tokens: Final = kv_total_tokens
        self.service_classes: Final = service_classes
        self.speed: Final = speed
        self.pending_output_tokens: Final = pending_output_tokens
        self.queue: Final = queue
        self.load_s: Final = load_s
