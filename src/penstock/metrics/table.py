"""Outcome of every request: the columns of ``requests.parquet``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.core.slo import Slo
from penstock.metrics import definitions
from penstock.metrics.definitions import BoolColumn, FloatColumn, IntColumn

CodeColumn = NDArray[np.int32]
StatusColumn = NDArray[np.int8]

STATUSES: Final = ("finished", "rejected", "shed", "unfinished")
FINISHED, REJECTED, SHED, UNFINISHED = range(4)
NO_REPLICA = -1


@dataclass(frozen=True, slots=True)
class Tasks:
    """The number of each row's session, -1 where a row belongs to none, and ``size``: how many
    requests the session has, sent or not."""

    index: IntColumn
    size: IntColumn

    def take(self, rows: IntColumn | BoolColumn | slice) -> "Tasks":
        """Return those of the chosen rows."""
        return Tasks(self.index[rows], self.size[rows])


def tasks_of(index: IntColumn | None) -> Tasks | None:
    """Return the sessions of all requests of a workload, with their sizes."""
    if index is None:
        return None
    sizes = np.bincount(index[index >= 0], minlength=1)
    return Tasks(index, np.where(index < 0, 0, sizes[index]))


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """The adapter of each row: ``index`` points into ``names``, whose empty name is the model
    itself."""

    index: CodeColumn
    names: tuple[str, ...]

    def take(self, rows: IntColumn | BoolColumn | slice) -> "AdapterNames":
        """Return those of the chosen rows."""
        return AdapterNames(self.index[rows], self.names)


def adapters_of(names: tuple[str, ...], index: IntColumn | None) -> AdapterNames | None:
    """Return the adapters of a workload's requests, None where no request may name any."""
    return None if index is None else AdapterNames(index.astype(np.int32), names)


@dataclass(frozen=True, slots=True)
class RequestTable:
    """One row per request received; all columns have one length.

    ``*_index`` columns point into the name tuples, ``status`` into STATUSES. Times are seconds on
    the run's clock, NaN when they never happened. ``replica`` is NO_REPLICA for a request that was
    never routed. ``output_tokens`` counts produced tokens, also of unfinished requests. In an even
    sample each row ``stands_for`` so many requests. ``tasks`` is None where no row has a session,
    ``adapters`` where no row names an adapter.
    """

    request_id: IntColumn
    model_index: CodeColumn
    class_index: CodeColumn
    tenant_index: CodeColumn
    replica: CodeColumn
    arrival_s: FloatColumn
    prompt_tokens: IntColumn
    output_tokens: IntColumn
    first_scheduled_s: FloatColumn
    first_token_s: FloatColumn
    last_token_s: FloatColumn
    itl_mean_s: FloatColumn
    itl_p99_s: FloatColumn
    itl_max_s: FloatColumn
    num_late_tokens: IntColumn
    num_preemptions: CodeColumn
    num_relegations: CodeColumn
    status: StatusColumn
    met_slo: BoolColumn
    models: tuple[str, ...]
    service_classes: tuple[str, ...]
    tenants: tuple[str, ...]
    stands_for: int = 1
    tasks: Tasks | None = None
    adapters: AdapterNames | None = None

    def __len__(self) -> int:
        return len(self.request_id)

    def blocks(self) -> "Iterator[RequestTable]":
        """Yield the rows in blocks of consecutive ones: all as one block."""
        yield self

    @property
    def finished(self) -> BoolColumn:
        """Return a mask of the finished requests."""
        return np.equal(self.status, FINISHED)

    @property
    def ttft_s(self) -> FloatColumn:
        """Time to first token, seconds."""
        return definitions.ttft_s(self.arrival_s, self.first_token_s)

    @property
    def e2e_s(self) -> FloatColumn:
        """Arrival to last token, seconds; NaN unless finished."""
        ended = np.where(self.finished, self.last_token_s, np.nan)
        return definitions.e2e_s(self.arrival_s, ended)

    @property
    def tpot_s(self) -> FloatColumn:
        """Mean time per output token after the first, seconds."""
        return definitions.tpot_s(self.first_token_s, self.last_token_s, self.output_tokens)

    @property
    def queue_s(self) -> FloatColumn:
        """Arrival to first scheduling, seconds."""
        return definitions.queue_s(self.arrival_s, self.first_scheduled_s)

    def take(self, rows: IntColumn | BoolColumn | slice) -> "RequestTable":
        """Return the chosen rows, by position or mask."""
        if isinstance(rows, np.ndarray) and rows.dtype == np.bool_:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)  # numpy would search the mask again for each column
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS},
                       tasks=self.tasks and self.tasks.take(rows),
                       adapters=self.adapters and self.adapters.take(rows))

    def since(self, from_s: float) -> "RequestTable":
        """Return the requests that arrived at ``from_s`` or later, those of tasks that had begun
        before without their tasks."""
        found = self.take(self.arrival_s >= from_s)
        if self.tasks is None or found.tasks is None:
            return found
        before = self.tasks.index[self.arrival_s < from_s]
        index = np.where(np.isin(found.tasks.index, before), -1, found.tasks.index)
        return replace(found, tasks=Tasks(index, found.tasks.size))

    def of_class(self, name: str) -> "RequestTable":
        """Return the requests of one service class, empty for an unknown class."""
        if name not in self.service_classes:
            return self.take(slice(0, 0))
        return self.take(self.class_index == self.service_classes.index(name))

    def judged(self, slos: Mapping[str, Slo]) -> "RequestTable":
        """Return the same rows with ``met_slo`` computed from the targets of each class."""
        met = np.zeros(len(self), dtype=np.bool_)
        finished, ttft_s, e2e_s = self.finished, self.ttft_s, self.e2e_s
        for index, name in enumerate(self.service_classes):
            rows = np.flatnonzero(self.class_index == index)
            if len(rows):
                met[rows] = definitions.met_slo(
                    slos[name], finished[rows], ttft_s[rows], e2e_s[rows],
                    self.output_tokens[rows], self.num_late_tokens[rows])
        return replace(self, met_slo=met)


NAMES: Final = {"model_index": "models", "class_index": "service_classes",
                "tenant_index": "tenants"}
COLUMNS: Final = tuple(field.name for field in fields(RequestTable)
                       if field.name not in {*NAMES.values(), "stands_for", "tasks", "adapters"})


class Requests(Protocol):
    """Requests in order of arrival: a RequestTable, or rows of a file, read block by block."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[RequestTable]:
        """Yield the rows in blocks of consecutive ones, the same each time. There is at least one
        block."""


def concat(tables: Iterable[RequestTable]) -> RequestTable:
    """Concatenate tables. Names are merged and codes renumbered.

    Raises ValueError when there is no table.
    """
    blocks = list(tables)
    if not blocks:
        raise ValueError("concat needs at least one table")
    names: dict[str, Any] = {kind: _merged(getattr(block, kind) for block in blocks)
                             for kind in NAMES.values()}
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        kind = NAMES.get(column)
        parts = [getattr(block, column) if kind is None else
                 _renumbered(getattr(block, column), getattr(block, kind), names[kind])
                 for block in blocks]
        columns[column] = np.concatenate(parts)
    return RequestTable(**columns, **names, stands_for=blocks[0].stands_for,
                        tasks=_joined_tasks(blocks), adapters=_joined_adapters(blocks))


def _joined_adapters(blocks: Sequence[RequestTable]) -> AdapterNames | None:
    """The adapters of all rows."""
    if all(block.adapters is None for block in blocks):
        return None
    found = [block.adapters or AdapterNames(np.zeros(len(block), np.int32), ("",))
             for block in blocks]
    names = _merged(one.names for one in found)
    return AdapterNames(np.concatenate([_renumbered(one.index, one.names, names)
                                        for one in found]), names)


def _joined_tasks(blocks: Sequence[RequestTable]) -> Tasks | None:
    """The sessions of all rows; blocks are of one run, whose sessions have one numbering."""
    if all(block.tasks is None for block in blocks):
        return None
    none = [np.full(len(block), -1, np.int64) for block in blocks]
    return Tasks(*(np.concatenate([
        alone if block.tasks is None else getattr(block.tasks, name)
        for block, alone in zip(blocks, none, strict=True)]) for name in ("index", "size")))


def _merged(tuples: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in tuples for name in names))


def _renumbered(codes: CodeColumn, names: Sequence[str], merged: Sequence[str]) -> CodeColumn:
    if tuple(names) == tuple(merged[:len(names)]):
        return codes
    return np.array([merged.index(name) for name in names], dtype=np.int32)[codes]
