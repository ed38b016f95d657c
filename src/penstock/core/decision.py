"""Decisions as values: what a policy answers, with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Accept:
    """The request may enter as it is."""


@dataclass(frozen=True, slots=True)
class Relax:
    """The request may enter, but one of its targets will not be kept."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The request is refused; the client may try again after ``retry_after_s``."""

    reason: str
    retry_after_s: float | None = None


Admit = Accept | Relax | Reject
ACCEPT = Accept()
NOWHERE = -1


class Prospect(NamedTuple):
    """Expectation of a router for one request on one replica: money, seconds, chances.

    ``chance`` is of keeping every target of its class, ``others_s`` how long all other requests of
    the replica together would wait for it. ``reason`` says why the replica was not eligible.
    """

    replica_id: int
    utility: float
    quality: float
    price: float
    chance: float
    ttft_s: float
    e2e_s: float
    others_s: float = 0.0
    reason: str = ""


class Route(NamedTuple):
    """The chosen replica, the terms that the choice rests on and why others were rejected.

    ``replica_id`` is NOWHERE where the request is refused; ``admit`` says why. ``max_tokens`` caps
    the answer where the client's budget does not pay for all that it asked for. ``prospects`` are
    the candidates as they were judged, for policies that judge.
    """

    replica_id: int
    terms: Mapping[str, float] = MappingProxyType({})
    rejected: Mapping[int, str] = MappingProxyType({})
    admit: Admit = ACCEPT
    max_tokens: int | None = None
    prospects: tuple[Prospect, ...] = ()
