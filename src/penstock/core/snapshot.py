"""State of one replica as seen from outside, with the time of observation."""

from typing import NamedTuple


class QueuedWork(NamedTuple):
    """Work left for one request on a replica; ``output_tokens_left`` is a prediction."""

    prompt_tokens_left: int
    context_tokens: int
    output_tokens_left: float


class ReplicaSnapshot(NamedTuple):
    """State of a replica as last observed. A stale or missing snapshot means unknown, never idle.

    A named tuple rather than a dataclass because routing makes one per replica and request.
    ``queued_prompt_tokens`` counts prompt tokens not yet computed, of waiting and running requests.
    ``pending_output_tokens`` are the expected remaining output tokens of its requests. ``speed`` is
    relative to the fastest replica of its model. ``queue`` lists its requests in order of service,
    where the routing policy needs it. ``load_s`` is the expected time to load the model, 0 where it
    is loaded.
    """

    replica_id: int
    model: str
    observed_at: float
    num_waiting: int
    num_running: int
    queued_prompt_tokens: int
    kv_used_tokens: int
    kv_total_tokens: int
    service_classes: frozenset[str] | None = None
    speed: float = 1.0
    pending_output_tokens: float = 0.0
    queue: tuple[QueuedWork, ...] = ()
    load_s: float = 0.0
