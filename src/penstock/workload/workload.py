"""Traffic as columns: one row per request, sorted by arrival."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.workload.answers import Answers

IntColumn: TypeAlias = NDArray[np.int64]
FloatColumn: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loops:
    """Closed loops of clients. ``starts_s`` has, by loop, when each of its clients begins.

    ``index`` has the loop of each request, -1 where no client sends the request. The requests of a
    loop go in order to the clients that become free. ``think_s`` is the time of each request after
    the end of its client's last one, in seconds.
    """

    starts_s: tuple[FloatColumn, ...]
    index: IntColumn
    think_s: FloatColumn


@dataclass(frozen=True, slots=True)
class Links:
    """Requests that wait for others, one entry for each pair, in any order.

    Request ``row[i]`` is sent ``delay_s[i]`` seconds after request ``after[i]`` was sent, where
    ``on_dispatch[i]``, or else has ended; with several entries, at the latest of these moments.
    Each ``after[i]`` is smaller than ``row[i]``. Requests without an entry arrive by themselves.
    """

    row: IntColumn
    after: IntColumn
    delay_s: FloatColumn
    on_dispatch: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests to come. ``output_tokens`` is the oracle's column: no policy may read it.

    ``arrival_s`` is sorted and starts at or after 0; every other column has its length. The
    ``*_index`` columns point into the name tuples. Row i's prefix hashes are
    ``hash_values[hash_offsets[i]:hash_offsets[i + 1]]``, one per ``hash_block_tokens`` tokens of
    its prompt's beginning; both are empty without prefix information. The model AUTO leaves the
    choice to the router; ``answers`` say then what each model would answer, where they differ.
    In a closed loop ``arrival_s`` is the start of the loop's first client, and of a request with
    ``links`` the time in the trace: the simulation decides when such a request is sent. ``tasks``
    has the number of each request's session, -1 where the request belongs to none. Where any
    request names an adapter, ``adapter_index`` points into ``adapters``, whose empty name is the
    model itself.
    """

    arrival_s: FloatColumn
    prompt_tokens: IntColumn
    output_tokens: IntColumn
    max_tokens: IntColumn
    models: tuple[str, ...]
    model_index: IntColumn
    service_classes: tuple[str, ...]
    class_index: IntColumn
    tenants: tuple[str, ...]
    tenant_index: IntColumn
    hash_offsets: IntColumn
    hash_values: IntColumn
    hash_block_tokens: int = 0
    answers: Answers | None = None
    loops: Loops | None = None
    links: Links | None = None
    tasks: IntColumn | None = None
    adapters: tuple[str, ...] = ()
    adapter_index: IntColumn | None = None

    @property
    def waits(self) -> bool:
        """Whether requests wait for answers, so that their times are not known before."""
        return self.loops is not None or self.links is not None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def blocks(self) -> "Iterator[Workload]":
        """Yield the requests in blocks of consecutive ones: all as one block."""
        yield self

    @property
    def duration_s(self) -> float:
        """From the clock's start to the last arrival, seconds."""
        return float(self.arrival_s[-1]) if len(self.arrival_s) else 0.0

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate over the workload's own span."""
        return len(self) / self.duration_s if self.duration_s > 0 else 0.0


class Traffic(Protocol):
    """Requests to come, in order of arrival: a Workload, or requests that are drawn block by block
    and never held whole. ``duration_s`` is the time of the last arrival."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""

    @property
    def service_classes(self) -> tuple[str, ...]:
        """Names of the service classes."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of the tenants."""

    @property
    def duration_s(self) -> float:
        """From the clock's start to the last arrival, seconds."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[Workload]:
        """Yield the requests in blocks of consecutive ones, the same each time."""
