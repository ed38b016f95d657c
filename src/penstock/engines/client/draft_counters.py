"""Acceptance of drafts from an engine's /metrics."""

import re
from math import isfinite
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.perf.speculation.acceptance import Acceptance, from_counters

_DRAFTS = re.compile(rb"^vllm:spec_decode_num_drafts(?:_total)?(?:\{[^}]*\})?\s+(\S+)",
                     re.MULTILINE)
_ACCEPTED = re.compile(
    rb'^vllm:spec_decode_num_accepted_tokens_per_pos(?:_total)?\{[^}]*position="(\d+)"[^}]*\}'
    rb"\s+(\S+)", re.MULTILINE)


class DraftCounts(NamedTuple):
    """Drafts of an engine since its start, and how many of them were accepted up to each
    position."""

    num_drafts: float
    accepted: tuple[float, ...]


def draft_counts(text: bytes, source: str) -> DraftCounts | None:
    """Return the counters of drafts in a vLLM server's /metrics, None where there are none.
    Counters of several engines in one text are summed. Raises InputError for odd ones."""
    drafts = sum(_value(match[1], source) for match in _DRAFTS.finditer(text))
    accepted: dict[int, float] = {}
    for match in _ACCEPTED.finditer(text):
        position = int(match[1])
        accepted[position] = accepted.get(position, 0.0) + _value(match[2], source)
    if not accepted:
        return None
    if sorted(accepted) != list(range(len(accepted))):
        raise InputError(f"{source}: counts positions {sorted(accepted)}; expected all from 0 on")
    return DraftCounts(drafts, tuple(accepted[i] for i in range(len(accepted))))


def read_acceptance(text: bytes, source: str) -> Acceptance:
    """Return the acceptance that vLLM counted, with 95 % intervals. Raises InputError for a text
    without counters of drafts."""
    found = draft_counts(text, source)
    if found is None:
        raise InputError(f"{source}: has no counters of drafts; expected "
                         "vllm:spec_decode_num_drafts and "
                         "vllm:spec_decode_num_accepted_tokens_per_pos, of a server with "
                         "--speculative-config")
    try:
        return from_counters(found.num_drafts, found.accepted, source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _value(text: bytes, source: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value < 0:
        raise InputError(f"{source}: a counter of drafts is {text.decode(errors='replace')!r}; "
                         "expected a number from 0")
    return value
