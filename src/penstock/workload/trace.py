"""Recorded requests as columns: what a trace file says, before it becomes traffic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.workload.links import taken_links
from penstock.workload.workload import FloatColumn, IntColumn, Links, Workload


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of names: row i has ``names[index[i]]``."""

    names: tuple[str, ...]
    index: IntColumn

    def take(self, rows: NDArray[np.int64]) -> "Labels":
        """The labels of ``rows``, in that order."""
        return Labels(self.names, self.index[rows])


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Hashes of each prompt's leading blocks: row i has ``values[offsets[i]:offsets[i + 1]]``.

    Each hash stands for its block and everything before it. The last hash of a row may stand for a
    block that the prompt fills only in part. Empty arrays and ``block_tokens`` 0 mean "unknown".
    """

    offsets: IntColumn
    values: IntColumn
    block_tokens: int

    def __bool__(self) -> bool:
        return self.block_tokens > 0

    @property
    def counts(self) -> IntColumn:
        """Blocks per row."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> "Prefixes":
        """The hashes of ``rows``, in that order."""
        if not self:
            return self
        counts = self.counts[rows]
        offsets = offsets_of(counts)
        # Position of every value: its row's old start plus its place within the row.
        shift = np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Prefixes(offsets, self.values[np.arange(offsets[-1]) + shift], self.block_tokens)


def offsets_of(counts: IntColumn) -> IntColumn:
    """Row starts, and the end of the last row, from the number of values per row."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def no_prefixes() -> Prefixes:
    """The value that says that nothing is known of prefixes."""
    return Prefixes(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)


@dataclass(frozen=True, slots=True)
class Trace:
    """One row per recorded request; ``arrival_s`` is sorted, or None when only lengths are known.

    ``service_class``, ``tenant``, ``model`` and ``session`` are None when the file has no such
    column.
    ``num_dropped`` counts rows of the file left out because they produced no token. ``assumed``
    says how the file's clock was read where nobody stated it. ``links`` say which requests waited
    for which, where the file does; without ``timed``, ``arrival_s`` of those that waited is no more
    than the earliest possible time.
    """

    arrival_s: FloatColumn | None
    prompt_tokens: IntColumn
    output_tokens: IntColumn
    service_class: Labels | None
    tenant: Labels | None
    model: Labels | None
    prefixes: Prefixes
    num_dropped: int = 0
    source: str = ""
    assumed: str = ""
    session: Labels | None = None
    links: Links | None = None
    timed: bool = True

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last, seconds; 0 without arrivals."""
        times = self.arrival_s
        return float(times[-1] - times[0]) if times is not None and len(times) else 0.0

    @property
    def last_s(self) -> float:
        """The last arrival, seconds; 0 without arrivals."""
        return float(self.arrival_s[-1]) if self.arrival_s is not None and len(self) else 0.0

    @property
    def rate_per_s(self) -> float:
        """Requests per second over the trace's own span; 0 when it spans no time."""
        return len(self) / self.duration_s if self.duration_s > 0 else 0.0

    def take(self, rows: NDArray[np.int64]) -> "Trace":
        """The requests ``rows`` in that order, which must keep arrivals sorted."""
        return replace(
            self,
            arrival_s=None if self.arrival_s is None else self.arrival_s[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            service_class=self.service_class and self.service_class.take(rows),
            tenant=self.tenant and self.tenant.take(rows),
            model=self.model and self.model.take(rows),
            session=self.session and self.session.take(rows),
            prefixes=self.prefixes.take(rows),
            links=self.links and taken_links(self.links, rows, len(self)),
        )


def joined_traces(parts: Sequence[Trace]) -> Trace:
    """Consecutive parts of one trace as one, without prefix hashes. All have the same columns and
    names."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def labels(name: str) -> Labels | None:
        found = [getattr(part, name) for part in parts]
        return found[0] and Labels(found[0].names, np.concatenate([one.index for one in found]))

    times = [part.arrival_s for part in parts if part.arrival_s is not None]
    return replace(
        first, arrival_s=np.concatenate(times) if times else None,
        prompt_tokens=np.concatenate([part.prompt_tokens for part in parts]),
        output_tokens=np.concatenate([part.output_tokens for part in parts]),
        service_class=labels("service_class"), tenant=labels("tenant"), model=labels("model"),
        session=labels("session"))


def workload_trace(workload: Workload) -> Trace:
    """A workload as a trace, for writing it to a file; ``max_tokens`` is not part of a trace."""
    prefixes = Prefixes(workload.hash_offsets, workload.hash_values, workload.hash_block_tokens)
    return Trace(
        workload.arrival_s, workload.prompt_tokens, workload.output_tokens,
        Labels(workload.service_classes, workload.class_index),
        Labels(workload.tenants, workload.tenant_index),
        _models_of(workload),
        prefixes,
    )


def _models_of(workload: Workload) -> Labels:
    """The models that clients ask for: an adapter's name stands for its model."""
    if workload.adapter_index is None:
        return Labels(workload.models, workload.model_index)
    index = np.where(np.array([bool(name) for name in workload.adapters])[workload.adapter_index],
                     workload.adapter_index + len(workload.models), workload.model_index)
    return Labels((*workload.models, *workload.adapters), index)
