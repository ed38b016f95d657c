"""Sums over requests, which add up over blocks of them."""

from dataclasses import dataclass, field, fields
from math import inf

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.definitions import IntColumn
from penstock.metrics.misses import missed_targets
from penstock.metrics.table import FINISHED, REJECTED, SHED, UNFINISHED, RequestTable


def computed_tokens(table: RequestTable) -> int:
    """Return the prompt and output tokens of requests that started."""
    # A client of a live engine observes the start only by the first token.
    started = ~(np.isnan(table.first_scheduled_s) & np.isnan(table.first_token_s))
    return int(table.prompt_tokens[started].sum() + table.output_tokens[started].sum())


@dataclass(frozen=True, slots=True)
class Span:
    """First and last arrival, and the last arrival or token, seconds. Infinite without requests."""

    first_s: float = inf
    last_s: float = -inf
    end_s: float = -inf

    def __add__(self, other: "Span") -> "Span":
        return Span(min(self.first_s, other.first_s), max(self.last_s, other.last_s),
                    max(self.end_s, other.end_s))

    @property
    def arrival_window_s(self) -> float:
        """From the first to the last arrival, 0 without requests. Arrival rates are over this
        window."""
        return max(0.0, self.last_s - self.first_s)

    @property
    def whole_window_s(self) -> float:
        """From the first arrival to the last arrival or token, 0 without requests.

        The time a fleet takes to drain its last requests counts: otherwise a run that accepts a
        burst and serves it an hour later would show the burst's own rate as goodput.
        """
        return max(0.0, self.end_s - self.first_s)


def span_of(table: RequestTable) -> Span:
    """Return when the requests arrived and ended."""
    if not len(table):
        return Span()
    last_s = float(table.arrival_s.max())
    ends_s = table.last_token_s[~np.isnan(table.last_token_s)]
    return Span(float(table.arrival_s.min()), last_s, max(last_s, float(ends_s.max(initial=-inf))))


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of requests by their end, and of their tokens. ``missed`` counts requests by the
    target that they missed, empty where no objective is stated."""

    received: int = 0
    finished: int = 0
    rejected: int = 0
    shed: int = 0
    unfinished: int = 0
    met: int = 0
    met_tokens: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    computed_tokens: int = 0
    num_late_tokens: int = 0
    num_preemptions: int = 0
    num_relegations: int = 0
    missed: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Counts") -> "Counts":
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name)
                for one in fields(self) if one.name != "missed"}
        names = dict.fromkeys((*self.missed, *other.missed))
        return Counts(**sums, missed={
            name: self.missed.get(name, 0) + other.missed.get(name, 0) for name in names})


def counts_of(table: RequestTable, slo: Slo | None = None) -> Counts:
    """Return the sums over a table's requests."""
    finished, rejected, shed, unfinished = (
        int(np.equal(table.status, code).sum()) for code in (FINISHED, REJECTED, SHED, UNFINISHED))
    return Counts(
        len(table), finished, rejected, shed, unfinished, int(table.met_slo.sum()),
        int(table.output_tokens[table.met_slo].sum()), int(table.prompt_tokens.sum()),
        int(table.output_tokens.sum()), computed_tokens(table), int(table.num_late_tokens.sum()),
        int(table.num_preemptions.sum()), int(table.num_relegations.sum()),
        {} if slo is None else missed_targets(table, slo))


def served_by(table: RequestTable, num_replicas: int) -> IntColumn:
    """Return the number of requests of each replica, shape (replicas,)."""
    routed = table.replica[(table.replica >= 0) & (table.replica < num_replicas)]
    found: IntColumn = np.bincount(routed, minlength=num_replicas).astype(np.int64)
    return found
