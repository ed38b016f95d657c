"""Outcome of a request on a replica, as observed by a router."""

from typing import NamedTuple


class Departure(NamedTuple):
    """A request that has left its replica: with a complete answer where ``finished``.

    ``ttft_s`` and ``e2e_s`` count from its arrival; ``ttft_s`` is ``None`` where no token came.
    """

    request_id: int
    replica_id: int
    finished: bool
    output_tokens: int
    ttft_s: float | None
    e2e_s: float
