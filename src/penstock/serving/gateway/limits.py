"""Limits of a gateway."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the gateway. ``max_in_flight`` requests are on engines at once and ``max_queue``
    wait for a place. ``attempts`` engines are tried before the first byte. An engine may be silent
    for ``silence_s``. A client has ``head_s`` to send a request's headers (and as long between two
    requests), and ``body_s`` for a body of at most ``max_body_bytes``. The process may use
    ``max_memory_bytes``, None for a share of the machine's memory."""

    max_in_flight: int = 4096
    max_queue: int = 0
    attempts: int = 3
    connect_s: float = 3.0
    silence_s: float = 300.0
    head_s: float = 75.0
    body_s: float = 60.0
    max_body_bytes: int = 16 * 2**20
    max_memory_bytes: int | None = None
