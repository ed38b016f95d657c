"""Decisions as values: what a policy answers, with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


class Route(NamedTuple):
    """The chosen replica, the terms that the choice rests on and why others were rejected."""

    replica_id: int
    terms: Mapping[str, float] = MappingProxyType({})
    rejected: Mapping[int, str] = MappingProxyType({})


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
