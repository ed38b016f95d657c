"""``penstock lab reproduce inferno``: every record of every golden file in a folder."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.inferno.against_milp import milp_records
from penstock.published.inferno.plans import (
    assignment_records,
    candidate_records,
    solution_records,
)
from penstock.published.inferno.queues import onset_records, queue_records
from penstock.published.inferno.read import read_json
from penstock.published.inferno.records import Record, summary
from penstock.published.inferno.samples import Samples
from penstock.published.inferno.slides import example_figures, slide_figures


def reproduce_inferno(data: Path, options: Options) -> Reproduction:
    """Compare each record that ``data`` holds, whichever files and rows are there.

    ``data`` is laid out as upstream's: ``golden_*.json``, ``onset/*.json`` and the bundles
    ``sample_v1/*`` and ``sample_v2/*``. Raises InputError when it holds none of them, and for a
    record without the parts that its kind has.
    """
    records = tuple(_records(data, options))
    if not records:
        raise InputError(f"{data}: holds no golden_*.json, no onset/*.json and no "
                         "sample_v*/*/solution-data.json")
    options.on_progress("slides")
    figures = [*slide_figures(), *example_figures(Samples(data)),
               *(record.figure() for record in records)]
    rows: list[dict[str, Any]] = [
        {"file": file, "records": number, "agree": good, "fields": fields}
        for file, (number, good, fields) in summary(records).items()]
    figures += [Figure(f"{row['file']}: records that agree, {row['fields']} fields",
                       row["records"], row["agree"], "exact") for row in rows]
    return Reproduction("inferno", tuple(figures), {"files.csv": rows},
                        tuple(record.as_dict() for record in records), tuple(_remarks(records)))


def _remarks(records: Iterable[Record]) -> Iterator[str]:
    """Each note once, with the records that it is about."""
    by_note: dict[str, list[str]] = {}
    for record in records:
        if record.note:
            by_note.setdefault(record.note, []).append(f"{record.file} {record.name}".strip())
    for note, names in by_note.items():
        listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        yield f"{note}: {len(names)} ({listed})"


def _records(data: Path, options: Options) -> Iterator[Record]:
    samples = Samples(data)
    kinds: dict[str, Callable[[Path, Any], Iterator[Record]]] = {
        "golden_queue_*.json": queue_records,
        "golden_candidates*.json": partial(candidate_records, samples=samples),
        "golden_assignments*.json": partial(assignment_records, samples=samples),
        "golden_milp_reference*.json": partial(milp_records, samples=samples)}
    files = [_File(path, compare) for pattern, compare in kinds.items()
             for path in sorted(data.glob(pattern))]
    for file, found in zip(files, options.where.results(_compared, files), strict=True):
        options.on_progress(f"compared {file.path.name}")
        yield from found
    onset = {path.name: read_json(path) for path in sorted((data / "onset").glob("*.json"))}
    if onset:
        options.on_progress("comparing onset")
        yield from _checked(data / "onset", onset_records(data / "onset", onset))
    solutions = {str(path.relative_to(data)): read_json(path)
                 for path in sorted(data.glob("sample_v*/*/solution-data.json"))}
    yield from _checked(data, solution_records(samples, solutions))


class _File(NamedTuple):
    """A file of records, and how they are compared."""

    path: Path
    compare: Callable[[Path, Any], Iterator[Record]]


def _compared(file: _File) -> list[Record]:
    return list(_checked(file.path, file.compare(file.path, read_json(file.path))))


def _checked(path: Path, records: Iterator[Record]) -> Iterator[Record]:
    """The records; a key that is not there or a value of another kind becomes an InputError."""
    try:
        yield from records
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: a record lacks what its kind has "
                         f"({type(error).__name__}: {error})") from error
