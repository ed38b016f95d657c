"""The order of prompts: a smaller key goes first, ties break by serial number.

A key depends only on the request and its own progress, so it stays valid in a heap until the
request advances.
"""

from collections.abc import Callable

from penstock.core.errors import InputError
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.sequence import Sequence

OrderKey = Callable[[Sequence], float]


def arrival_key(sequence: Sequence) -> float:
    """First come, first served."""
    return sequence.request.arrival_s


def deadline_key(sequence: Sequence) -> float:
    """Earliest deadline first."""
    return sequence.deadline_s


def remaining_key(sequence: Sequence) -> float:
    """Shortest remaining prompt first."""
    return float(sequence.prompt_target - sequence.computed)


def attained_key(sequence: Sequence) -> float:
    """Least attained service of the session first: its service before this request came."""
    return sequence.attained


def hybrid_key(s_per_token: float) -> OrderKey:
    """Niyama's mix: deadline plus ``s_per_token`` seconds for each remaining prompt token."""

    def key(sequence: Sequence) -> float:
        return sequence.deadline_s + s_per_token * (sequence.prompt_target - sequence.computed)

    return key


def order_key(options: SchedulerOptions) -> OrderKey:
    """The key function that ``options`` names."""
    keys: dict[str, OrderKey] = {"arrival": arrival_key, "deadline": deadline_key,
                                 "feasible": deadline_key, "remaining": remaining_key,
                                 "attained": attained_key,
                                 "hybrid": hybrid_key(options.hybrid_s_per_token)}
    if options.order not in keys:
        raise InputError(f"unknown order {options.order!r}")
    return keys[options.order]
