"""The file of a run's requests: one row each, in order of arrival."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.metrics.table import NAMES, STATUSES, AdapterNames, RequestTable, Tasks, concat

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

ROWS_PER_GROUP = 100_000

# The published order of columns, each with the attribute of RequestTable that holds it.
PARQUET_COLUMNS = {
    "request_id": "request_id", "model": "model_index", "service_class": "class_index",
    "tenant": "tenant_index", "replica": "replica", "arrival_s": "arrival_s",
    "prompt_tokens": "prompt_tokens", "output_tokens": "output_tokens",
    "first_scheduled_s": "first_scheduled_s", "first_token_s": "first_token_s",
    "last_token_s": "last_token_s", "itl_mean_s": "itl_mean_s", "itl_p99_s": "itl_p99_s",
    "itl_max_s": "itl_max_s", "num_late_tokens": "num_late_tokens",
    "num_preemptions": "num_preemptions", "num_relegations": "num_relegations",
    "status": "status", "met_slo": "met_slo",
}
TASK_COLUMNS = {"session": "index", "session_requests": "size"}
"""Further columns where requests belong to sessions."""

ADAPTER_COLUMN = "adapter"
"""A further column where requests name adapters; empty for a model itself."""


class RequestWriter:
    """Streams request rows into a Parquet file, one row group at a time.

    A context manager: the file gets its name when the block ends well and is removed when it ends
    with an exception. NaN moments are stored as nulls. Without any row nothing is written.
    """

    def __init__(self, path: Path, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self.path = path
        self.rows_per_group = rows_per_group
        self._pending: list[RequestTable] = []
        self._num_pending = 0
        self._writer: parquet.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, table: RequestTable) -> None:
        """Take the rows of one block; they reach the disk when a row group is full. The file does
        not depend on the sizes of blocks."""
        self._pending.append(table)
        self._num_pending += len(table)
        if self._num_pending >= self.rows_per_group:
            self._flush(self._num_pending // self.rows_per_group * self.rows_per_group)

    def close(self) -> None:
        """Write what is pending and give the file its name."""
        if self._num_pending or (self._pending and self._writer is None):
            self._flush(self._num_pending)
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            temporary_path(self.path).replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._pending = []
        self._num_pending = 0
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        temporary_path(self.path).unlink(missing_ok=True)

    def _flush(self, num_rows: int) -> None:
        from pyarrow import parquet  # 0.1 s to import, so only where a file is written

        rows = concat(self._pending)
        block = arrow_table(rows.take(slice(num_rows)))
        self._pending = [rows.take(np.arange(num_rows, len(rows)))] if num_rows < len(rows) else []
        self._num_pending = len(rows) - num_rows
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(temporary_path(self.path), block.schema,
                                                 compression="zstd")
        self._writer.write_table(block, row_group_size=self.rows_per_group)


def arrow_table(table: RequestTable) -> "pa.Table":
    """The table in Arrow's form: names as dictionary columns, NaN as null."""
    import pyarrow as pa

    columns = {}
    for name, attribute in PARQUET_COLUMNS.items():
        values = getattr(table, attribute)
        if attribute == "status":
            columns[name] = _named(values, STATUSES)
        elif attribute in NAMES:
            columns[name] = _named(values, getattr(table, NAMES[attribute]))
        else:
            columns[name] = pa.array(values, from_pandas=values.dtype.kind == "f")
    if table.tasks is not None:
        columns |= {name: pa.array(getattr(table.tasks, attribute))
                    for name, attribute in TASK_COLUMNS.items()}
    if table.adapters is not None:
        columns[ADAPTER_COLUMN] = _named(table.adapters.index, table.adapters.names)
    return pa.table(columns)


def _named(codes: Any, names: tuple[str, ...]) -> "pa.Array[Any]":
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)),
                                          pa.array(names, type=pa.string()))


def read_requests(path: Path) -> RequestTable:
    """The table that ``RequestWriter`` wrote. Raises InputError for what is no such file."""
    from pyarrow import parquet

    with _readable(path):
        return _table(parquet.read_table(path))


class StoredRequests:
    """Requests in a file of ``RequestWriter``, in order of arrival, read block by block.

    Raises InputError for what is no such file.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self.path = path
        with _readable(path):
            self._num_requests = int(parquet.read_metadata(path).num_rows)

    def __len__(self) -> int:
        return self._num_requests

    def blocks(self) -> Iterator[RequestTable]:
        """Yield the rows in blocks of consecutive ones."""
        from pyarrow import parquet

        # Buffering ahead would hold the bytes of all row groups.
        with _readable(self.path), parquet.ParquetFile(self.path, pre_buffer=False) as file:
            for number in range(file.num_row_groups):
                yield _table(file.read_row_group(number))

    def sample(self, most: int) -> RequestTable:
        """Return at most ``most`` evenly spread rows, each of which stands for as many requests."""
        step = max(1, ceil_div(len(self), most))
        parts, first = [], 0
        for block in self.blocks():
            # By number, because views would keep all blocks.
            parts.append(block.take(np.arange(-first % step, len(block), step)))
            first += len(block)
        return replace(concat(parts), stands_for=step)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except (pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not the requests of a run ({error})") from error


def _table(found: "pa.Table") -> RequestTable:
    """The rows of a file's table."""
    found = found.unify_dictionaries()
    columns: dict[str, Any] = {}
    for name, attribute in PARQUET_COLUMNS.items():
        column: Any = found[name].combine_chunks()
        if attribute == "status":
            codes = np.array([STATUSES.index(one) for one in column.dictionary.to_pylist()],
                             dtype=np.int8)
            columns[attribute] = codes[column.indices.to_numpy(zero_copy_only=False)]
        elif attribute in NAMES:
            columns[attribute] = column.indices.to_numpy(zero_copy_only=False)
            columns[NAMES[attribute]] = tuple(column.dictionary.to_pylist())
        else:
            columns[attribute] = column.to_numpy(zero_copy_only=False)
    return RequestTable(**columns, tasks=_tasks(found), adapters=_adapters(found))


def _adapters(found: "pa.Table") -> AdapterNames | None:
    if ADAPTER_COLUMN not in found.column_names:
        return None
    column: Any = found[ADAPTER_COLUMN].combine_chunks()
    return AdapterNames(column.indices.to_numpy(zero_copy_only=False),
                        tuple(column.dictionary.to_pylist()))


def _tasks(found: "pa.Table") -> Tasks | None:
    if not {*TASK_COLUMNS} <= {*found.column_names}:
        return None
    return Tasks(**{attribute: found[name].to_numpy()
                    for name, attribute in TASK_COLUMNS.items()})


def temporary_path(path: Path) -> Path:
    """Return the path of an unfinished file: beside its final place, so that renaming is atomic."""
    return path.with_name(f".{path.name}.partial")
