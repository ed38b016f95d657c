"""Prompts that moved between replicas, in the summary of a run."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Transfers:
    """Prompts whose KV cache moved to the replica that decoded the answer: their number, their
    bytes, and the seconds from the end of a prompt to the end of its transfer. ``held_tokens`` are
    those of the prompts that did not move, as the second replica had them."""

    num_transfers: int
    num_bytes: float
    held_tokens: int
    mean_s: float | None
    longest_s: float
