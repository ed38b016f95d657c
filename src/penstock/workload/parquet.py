"""Parquet files as columns of numbers and names, not yet judged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.clock import Clock, seconds_of
from penstock.workload.columns import LABELS
from penstock.workload.table import Table
from penstock.workload.trace import Labels, Prefixes, no_prefixes
from penstock.workload.workload import FloatColumn


def first_row(path: Path) -> dict[str, Any]:
    """The first row of a Parquet file by column, None for each where the file has no rows.

    Raises InputError for a file that is not Parquet.
    """
    with readable(path) as source:
        names = source.schema_arrow.names
        first = next(source.iter_batches(1), None)
        row = first.to_pylist()[0] if first is not None and first.num_rows else {}
        return {name: row.get(name) for name in names}


def read_parquet_table(path: Path, fields: Mapping[str, str], clock: Clock) -> Table:
    """The columns of a Parquet file that ``fields`` names by Penstock's names, with prefix hashes
    when Penstock wrote it.

    Raises InputError for a file that is not Parquet or holds a non-number.
    """
    with readable(path) as source:
        has_hashes = ("prefix_hashes" in source.schema_arrow.names
                      and b"hash_block_tokens" in (source.schema_arrow.metadata or {}))
        data = source.read([*fields.values(), *(["prefix_hashes"] if has_hashes else [])])
        prompts, outputs = (_parquet_numbers(data.column(fields[column]))
                            for column in ("prompt_tokens", "output_tokens"))
        labels = {column: _parquet_labels(data.column(fields[column]))
                  for column in LABELS if column in fields}
        prefixes = _parquet_prefixes(data) if has_hashes else no_prefixes()
        times = _parquet_times(data.column(fields["arrival_s"]), clock)
    return Table(times, prompts, outputs, labels, prefixes)


@contextmanager
def readable(path: Path) -> Iterator[Any]:
    """Open a Parquet file. Raises InputError for a file that is not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: {said}") from error


def _parquet_times(column: Any, clock: Clock) -> FloatColumn:
    import pyarrow as pa

    if clock.unit == "iso":
        moments = column.cast(pa.timestamp("ns", getattr(column.type, "tz", None)))
        return seconds_of(moments.cast("int64").to_numpy(), clock)
    return seconds_of(_parquet_numbers(column) - clock.first, clock)


def _parquet_numbers(column: Any) -> FloatColumn:
    values: FloatColumn = column.cast("float64").to_numpy()
    return values


def _parquet_labels(column: Any) -> Labels:
    import pyarrow as pa

    encoded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    index = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(tuple(encoded.dictionary.to_pylist()), index)


def _parquet_prefixes(data: Any) -> Prefixes:
    column = data.column("prefix_hashes").combine_chunks()
    block_tokens = int(data.schema.metadata[b"hash_block_tokens"])
    return Prefixes(column.offsets.to_numpy().astype(np.int64),
                    column.values.to_numpy().astype(np.int64), block_tokens)
