"""Decisions as values: a policy's answers with their reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from penstock.core.value import Value, made_again


@dataclass(frozen=True, slots=True)
class Accept:
    """The request is admitted unchanged."""

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


@dataclass(frozen=True, slots=True)
class Relax:
    """The request is admitted, but one of its targets will not be met."""

    reason: str

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


@dataclass(frozen=True, slots=True)
class Reject:
    """The request is rejected; the client may retry after ``retry_after_s``."""

    reason: str
    retry_after_s: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


Admit = Accept | Relax | Reject
ACCEPT: Final = Accept()
NOWHERE: Final = -1
_NO_TERMS: Mapping[str, float] = MappingProxyType({})
_NOBODY: Mapping[int, str] = MappingProxyType({})


class ScoredCandidate(Value):
    """A router's score of one replica for one request: money, seconds, probabilities.

    ``chance`` is the probability of meeting every target of its class, ``others_s`` the total
    additional wait of the replica's other requests. ``reason`` says why the replica was not
    eligible.
    """

    __match_args__ = ("replica_id", "utility", "quality", "price", "chance", "ttft_s", "e2e_s",
                      "others_s", "reason")

    def __init__(self, replica_id: int, utility: float, quality: float, price: float,
                 chance: float, ttft_s: float, e2e_s: float, others_s: float = 0.0,
                 reason: str = "") -> None:
        self.replica_id: Final = replica_id
        self.utility: Final = utility
        self.quality: Final = quality
        self.price: Final = price
        self.chance: Final = chance
        self.ttft_s: Final = ttft_s
        self.e2e_s: Final = e2e_s
        self.others_s: Final = others_s
        self.reason: Final = reason


class Route(Value):
    """The chosen replica, the terms of the choice, and why others were rejected.

    ``replica_id`` is NOWHERE where the request is rejected; ``admit`` says why. ``max_tokens`` caps
    the answer where the client's budget does not pay for all of it. ``prospects`` are the scored
    candidates of policies that score.
    """

    __match_args__ = ("replica_id", "terms", "rejected", "admit", "max_tokens", "prospects")

    def __init__(self, replica_id: int, terms: Mapping[str, float] = _NO_TERMS,
                 rejected: Mapping[int, str] = _NOBODY, admit: Admit = ACCEPT,
                 max_tokens: int | None = None, prospects: tuple[ScoredCandidate, ...] = ()
                 ) -> None:
        self.replica_id: Final = replica_id
        self.terms: Final = terms
        self.rejected: Final = rejected
        self.admit: Final = admit
        self.max_tokens: Final = max_tokens
        self.prospects: Final = prospects
