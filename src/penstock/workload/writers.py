"""Writes a Trace to the formats that ``read_trace`` reads back."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from penstock.core.errors import InputError
from penstock.workload.mooncake import BLOCK_TOKENS
from penstock.workload.trace import Labels, Trace

_BLOCK_ROWS = 1 << 15


def write_trace(trace: Trace, path: Path | str) -> None:
    """Write ``trace`` as CSV, Mooncake JSON lines or Parquet, by the path's extension.

    ``.csv`` and ``.jsonl`` may end in ``.gz``. CSV has no room for prefix hashes, Mooncake's only
    for those of 512-token blocks, and a trace without arrivals fits CSV alone. Raises InputError
    for what does not fit, and for a path that cannot be written.
    """
    path = Path(path)
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    writers = {".csv": _write_csv, ".jsonl": _write_mooncake, ".parquet": _write_parquet}
    if kind not in writers or path.name.endswith(".parquet.gz"):
        raise InputError(f"{path}: cannot tell the format; expected a name that ends in .csv, "
                         ".csv.gz, .jsonl, .jsonl.gz or .parquet")
    if not trace.timed:
        raise InputError(f"{path}: the requests of {trace.source or 'the trace'} wait for answers "
                         "and have no times of their own; expected a trace with times")
    if trace.arrival_s is None and kind != ".csv":
        raise InputError(f"{path}: the trace has lengths only; write it as .csv")
    try:
        writers[kind](trace, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
                yield text
            return
        # Neither name nor time in the header: equal traces give equal files.
        with (gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
              io.TextIOWrapper(packed, encoding="utf-8", newline="") as text):
            yield text


def _label_columns(trace: Trace) -> dict[str, Labels]:
    columns = {"class": trace.service_class, "tenant": trace.tenant, "model": trace.model,
               "session": trace.session}
    return {name: labels for name, labels in columns.items() if labels is not None}


def _blocks(trace: Trace) -> Iterator[tuple[slice, list[Sequence[Any]]]]:
    """Slices of rows with their columns as lists: times if known, lengths, then labels."""
    labels = _label_columns(trace).values()
    for start in range(0, len(trace), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        times = [] if trace.arrival_s is None else [trace.arrival_s[rows].tolist()]
        names = [[label.names[place] for place in label.index[rows].tolist()] for label in labels]
        yield rows, [*times, trace.prompt_tokens[rows].tolist(),
                     trace.output_tokens[rows].tolist(), *names]


def _write_csv(trace: Trace, path: Path) -> None:
    if trace.prefixes:
        raise InputError(f"{path}: CSV cannot hold prefix hashes; write .jsonl or .parquet")
    times = [] if trace.arrival_s is None else ["arrival_s"]
    header = [*times, "prompt_tokens", "output_tokens", *_label_columns(trace)]
    with _text(path) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for _, columns in _blocks(trace):
            writer.writerows(zip(*columns, strict=True))


def _write_mooncake(trace: Trace, path: Path) -> None:
    import orjson

    prefixes = trace.prefixes
    if prefixes and prefixes.block_tokens != BLOCK_TOKENS:
        raise InputError(f"{path}: prefix hashes are of {prefixes.block_tokens}-token blocks; "
                         f"Mooncake's are of {BLOCK_TOKENS}; write .parquet")
    offsets = prefixes.offsets.tolist() if prefixes else [0] * (len(trace) + 1)
    labels = list(_label_columns(trace))
    with _text(path) as text:
        for rows, columns in _blocks(trace):
            for number, fields in enumerate(zip(*columns, strict=True), rows.start):
                time_s, prompt, output, *names = fields
                hashes = prefixes.values[offsets[number]:offsets[number + 1]].tolist()
                row = {"timestamp": _milliseconds(time_s), "input_length": prompt,
                       "output_length": output, "hash_ids": hashes,
                       **dict(zip(labels, names, strict=True))}
                text.write(orjson.dumps(row).decode() + "\n")


def _milliseconds(time_s: float) -> float:
    """A whole number where the time is whole milliseconds, as Mooncake writes it."""
    whole = round(time_s * 1000.0)
    return whole if whole / 1000.0 == time_s else time_s * 1000.0


def _write_parquet(trace: Trace, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = trace.arrival_s
    assert times is not None, "write_trace saw to it"
    columns: dict[str, Any] = {
        "arrival_s": pa.array(times, pa.float64()),
        "prompt_tokens": pa.array(trace.prompt_tokens, pa.int64()),
        "output_tokens": pa.array(trace.output_tokens, pa.int64()),
    }
    for name, labels in _label_columns(trace).items():
        columns[name] = pa.DictionaryArray.from_arrays(
            pa.array(labels.index, pa.int32()), pa.array(labels.names, pa.string()))
    metadata = {}
    if trace.prefixes:
        columns["prefix_hashes"] = pa.LargeListArray.from_arrays(
            pa.array(trace.prefixes.offsets, pa.int64()),
            pa.array(trace.prefixes.values, pa.int64()))
        metadata["hash_block_tokens"] = str(trace.prefixes.block_tokens)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
