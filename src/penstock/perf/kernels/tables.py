"""Kernel tables read and checked: one row is one kernel call on one GPU."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.perf.kernels.layout import LAYOUTS, Layout, TableFile, chosen_files, table_files

Column = NDArray[Any]
_LATENCY = ("latency_ms", "latency")
_MOST_CODES = 2**62


@dataclass(frozen=True, slots=True)
class KernelTable:
    """Columns of one table, all of one length; ``seconds`` is the duration of one call."""

    columns: Mapping[str, Column]
    seconds: NDArray[np.float64]
    source: str
    _distinct: dict[str, list[Any]] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.seconds)

    def where(self, **wanted: float | str) -> "KernelTable":
        """The rows whose columns equal all of ``wanted``."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in wanted.items():
            keep &= self.columns[name] == value
        return self.rows(keep)

    def rows(self, selected: Column) -> "KernelTable":
        """Those rows alone (a mask or positions)."""
        return KernelTable({name: values[selected] for name, values in self.columns.items()},
                           self.seconds[selected], self.source)

    def values(self, name: str) -> list[Any]:
        """The distinct values of a column, ascending."""
        if name not in self._distinct:  # a whole table is asked for its formats thousands of times
            self._distinct[name] = np.unique(self.columns[name]).tolist()
        return self._distinct[name]


@dataclass(frozen=True, slots=True)
class KernelTables:
    """The tables of one system (a kind of GPU node) by name, as one serving software ran them."""

    system: str
    tables: Mapping[str, KernelTable]
    versions: tuple[str, ...] = field(default=())

    def table(self, name: str) -> KernelTable:
        """A table by name; InputError when this system has none."""
        if name not in self.tables:
            raise InputError(f"{self.system}: no {name} table{nearest(name, self.tables)}")
        return self.tables[name]

    @property
    def source(self) -> str:
        """The system and versions of the tables, in words."""
        return f"{self.system} kernel tables ({', '.join(self.versions)})"


def read_kernel_tables(folder: Path | str, system: str, backend: str = "vllm",
                       version: str | None = None) -> KernelTables:
    """Return the tables of ``system`` below ``folder``; the newest version unless one is named.

    Raises InputError for an unknown system, backend or version; a table that is asked for raises it
    where its file is broken.
    """
    return read_files(tuple(chosen_files(table_files(folder), system, backend, version).values()))


def read_files(files: tuple[TableFile, ...]) -> KernelTables:
    """Return these files, the tables of one system. Each is read when its table is asked for."""
    versions = {f"{file.backend or file.table} {file.version}".strip() for file in files}
    return KernelTables(files[0].system, _Files({file.table: file.path for file in files}),
                        tuple(sorted(versions)))


class _Files(Mapping[str, KernelTable]):
    """Tables by name; a model needs a few of them, and large ones take 0.1 s to read."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._read: dict[str, KernelTable] = {}

    def __getitem__(self, name: str) -> KernelTable:
        if name not in self._read:
            self._read[name] = read_kernel_table(self._paths[name], name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def read_kernel_table(path: Path, kind: str) -> KernelTable:
    """Read a CSV, gzipped CSV or Parquet file as a table of ``kind`` (a name of ``LAYOUTS``).

    Rows of the same key are merged into their median. Raises InputError with file, column and line.
    """
    layout = LAYOUTS[kind]
    raw = _read_arrow(path, layout)
    latency = next((name for name in _LATENCY if name in raw.column_names), None)
    if latency is None:
        raise InputError(f"{path}: no column 'latency_ms' (or latency); found: "
                         f"{', '.join(raw.column_names)}")
    if not raw.num_rows:
        raise InputError(f"{path}: no rows; expected one kernel call a row")
    columns: dict[str, Column] = {}
    for name in (*layout.numbers, *layout.words):
        columns[name] = _column(raw, name, layout, path)
    milliseconds = _numbers(raw, latency, path, more_than_zero=True)
    return _merged(KernelTable(columns, milliseconds / 1000.0, str(path)))


def _read_arrow(path: Path, layout: Layout) -> Any:
    """The file's rows. Of Parquet only the layout's columns, all where some of them are absent, so
    that an error can name those that are there; words by their distinct values."""
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(path, read_dictionary=list(layout.words)) as file:
                names = file.schema_arrow.names
                wanted = [*layout.numbers, *layout.words]
                latency = [name for name in _LATENCY if name in names]
                whole = latency and all(name in names for name in wanted)
                return file.read([*wanted, *latency] if whole else None)
        import pyarrow.csv

        return pyarrow.csv.read_csv(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except pa.ArrowException as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{path}: is not a table ({problem})") from error


def _column(raw: Any, name: str, layout: Layout, path: Path) -> Column:
    if name not in raw.column_names:
        if name not in layout.defaults:
            raise InputError(f"{path}: no column {name!r}{nearest(name, raw.column_names)}")
        return np.full(raw.num_rows, layout.defaults[name])
    if name in layout.words:
        return _words(raw.column(name))
    return _numbers(raw, name, path)


def _words(column: Any) -> Column:
    """A column as text. Where it is stored by its few distinct values, only these are converted."""
    if not hasattr(column.type, "index_type") or column.null_count:
        return np.array([str(value) for value in column.to_pylist()])
    coded = column.unify_dictionaries()
    words = np.array(coded.chunk(0).dictionary.to_pylist())
    return np.concatenate([words[part.indices.to_numpy()] for part in coded.chunks])


def _numbers(raw: Any, name: str, path: Path, *, more_than_zero: bool = False
             ) -> NDArray[np.float64]:
    values = raw.column(name)
    try:
        numbers = np.asarray(values.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError):
        row = next(_not_numbers(values.to_pylist()))
        raise InputError(f"{path}: {_place(path, row)}: {name} is {values[row].as_py()!r}; "
                         "expected a number") from None
    bad = ~np.isfinite(numbers) | ((numbers <= 0.0) if more_than_zero else (numbers < 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        least = "a number above 0" if more_than_zero else "0 or more"
        found = "empty" if values[row].as_py() is None else values[row]
        raise InputError(f"{path}: {_place(path, row)}: {name} is {found}; expected {least}")
    return numbers


def _not_numbers(values: list[Any]) -> Iterator[int]:
    for row, value in enumerate(values):
        try:
            float(value)
        except (TypeError, ValueError):
            yield row


def _place(path: Path, row: int) -> str:
    # The first line of a CSV file names the columns.
    return f"row {row + 1}" if path.suffix == ".parquet" else f"line {row + 2}"


def _merged(table: KernelTable) -> KernelTable:
    """One row per key: repeats, and other kernels for the same shape, become their median."""
    names = list(table.columns)
    codes = np.zeros(len(table), dtype=np.int64)
    for name in names:
        values, code = _ranked(table.columns[name])
        if (int(codes.max()) + 1) * len(values) > _MOST_CODES:
            codes = _ranked(codes)[1]
        codes = codes * len(values) + code
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    if len(starts) == len(order):
        return table.rows(order)
    order = np.lexsort((table.seconds, codes))
    ends = np.append(starts[1:], len(order))
    low, high = order[(starts + ends - 1) // 2], order[(starts + ends) // 2]
    middle = 0.5 * (table.seconds[low] + table.seconds[high])
    return KernelTable({name: table.columns[name][low] for name in names}, middle, table.source)


def _ranked(values: Column) -> tuple[Column, NDArray[np.int64]]:
    """The distinct values, ascending, and the place of each value among them. For the few distinct
    values of a column faster than the sort that gives ``np.unique`` its inverse."""
    distinct = np.unique(values)
    return distinct, np.searchsorted(distinct, values)
