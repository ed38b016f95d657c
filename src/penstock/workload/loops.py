"""Closed loops: clients that send their next request once their last has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.workload.workload import FloatColumn, IntColumn, Loops

NO_LOOP = -1


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A number of clients that take the source's requests in order.

    Client i of n begins at ``ramp_s * i / n``. Between the end of a client's request and its next
    request lies a think time of mean ``think_s``: constant, or drawn from a gamma distribution with
    the coefficient of variation ``think_cv``.
    """

    num_clients: int
    think_s: float = 0.0
    think_cv: float = 0.0
    ramp_s: float = 0.0

    def check(self) -> None:
        """Raise InputError for values that no client can have."""
        if self.num_clients < 1:
            raise InputError(f"clients is {self.num_clients}; expected at least 1")
        for name, value in (("think_s", self.think_s), ("think_cv", self.think_cv),
                            ("ramp_s", self.ramp_s)):
            if not 0.0 <= value < np.inf:
                raise InputError(f"{name} is {value:g}; expected a number from 0")

    def starts_s(self, start_s: float) -> FloatColumn:
        """Return when each client begins, in seconds."""
        return start_s + self.ramp_s * np.arange(self.num_clients) / self.num_clients

    def thinks_s(self, rng: np.random.Generator, num: int) -> FloatColumn:
        """Return the think time before each of ``num`` requests; a client's first has none."""
        thinks = thinks_s(rng, num, self.think_s, self.think_cv)
        thinks[:self.num_clients] = 0.0
        return thinks


def thinks_s(rng: np.random.Generator, num: int, mean_s: float, cv: float) -> FloatColumn:
    """Draw think times from a gamma distribution; without variation all are the mean."""
    if cv == 0.0 or mean_s == 0.0:
        return np.full(num, mean_s)
    shape = cv**-2
    return rng.standard_gamma(shape, num) * (mean_s / shape)


def joined_loops(parts: Sequence[tuple[int, Loops | None]], order: IntColumn) -> Loops | None:
    """Return the loops of several workloads, given as (requests, loops), put into one ``order``."""
    if all(loops is None for _, loops in parts):
        return None
    starts: list[FloatColumn] = []
    index: list[IntColumn] = []
    thinks: list[FloatColumn] = []
    for num, loops in parts:
        if loops is None:
            index.append(np.full(num, NO_LOOP, np.int64))
            thinks.append(np.zeros(num))
        else:
            index.append(np.where(loops.index < 0, NO_LOOP, loops.index + len(starts)))
            thinks.append(loops.think_s)
            starts += loops.starts_s
    return Loops(tuple(starts), np.concatenate(index)[order], np.concatenate(thinks)[order])


def loops_of(loops: Loops, rows: NDArray[np.bool_]) -> Loops:
    """Return the loops for the requests that the mask ``rows`` picks, with all clients."""
    return Loops(loops.starts_s, loops.index[rows], loops.think_s[rows])
