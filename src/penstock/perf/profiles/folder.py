"""A profile on disk: a folder with ``profile.json`` and ``points.parquet``.

Both are replaced whole, so that what a killed run leaves is a profile of all that it had measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.perf.profiles.points import COLUMNS, Measurement, column_type, measurement_of, row_of

FORMAT, VERSION = "penstock-profile", 1
DOCUMENT, POINTS = "profile.json", "points.parquet"
_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True)
class Profile:
    """Measurements, and the circumstances of measuring (``document``, see profile.json)."""

    document: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    source: str = ""

    @property
    def counted(self) -> tuple[Measurement, ...]:
        """Without warm-ups."""
        return tuple(one for one in self.measurements if not one.warm_up)

    @property
    def is_simulated(self) -> bool:
        """Whether no engine was measured, but a step-time model asked."""
        return bool(self.document.get("subject", {}).get("simulated"))


def is_profile(path: Path | str) -> bool:
    """Whether a folder holds a profile."""
    return (Path(path) / DOCUMENT).is_file()


def is_partial(path: Path) -> bool:
    """Whether a file is what a run left that was killed while it wrote."""
    return path.name.startswith(_PARTIAL)


def read_profile(path: Path | str) -> Profile:
    """Read a profile's folder. Raises InputError that names the file and what is wrong with it."""
    path = Path(path)
    if not is_profile(path):
        raise InputError(f"{path}: no {DOCUMENT} there; expected a folder that `penstock profile` "
                         "wrote")
    document = _read_document(path / DOCUMENT)
    table = path / POINTS
    return Profile(document, tuple(_read_points(table)) if table.exists() else (), str(path))


def write_profile(path: Path, document: Mapping[str, Any],
                  measurements: Sequence[Measurement]) -> None:
    """Replace a profile's files, the table first. Raises InputError where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        partial = path / f"{_PARTIAL}{POINTS}"
        _write_points(partial, measurements)
        partial.replace(path / POINTS)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    write_document(path, document)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Replace ``profile.json`` alone. Raises InputError where that cannot be done."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    content = orjson.dumps({"format": FORMAT, "version": VERSION, **document}, option=options)
    try:
        path.mkdir(parents=True, exist_ok=True)
        partial = path / f"{_PARTIAL}{DOCUMENT}"
        partial.write_bytes(content)
        partial.replace(path / DOCUMENT)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _read_document(path: Path) -> dict[str, Any]:
    import orjson

    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path}: not a profile; expected an object with format {FORMAT!r}")
    if document.get("version") != VERSION:
        raise InputError(f"{path}: version {document.get('version')!r}; expected {VERSION}")
    for name in ("subject", "machine", "design"):
        if not isinstance(document.get(name, {}), dict):
            raise InputError(f"{path}: {name}: found {document[name]!r}; expected an object")
    return document


def _schema() -> Any:
    import pyarrow as pa

    types: dict[str, Any] = {"text": pa.string(), "whole": pa.int64(), "flag": pa.bool_(),
                             "number": pa.float64()}
    return pa.schema([(name, types[column_type(name)]) for name in COLUMNS])


def _write_points(path: Path, measurements: Sequence[Measurement]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row_of(one) for one in measurements]
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), path)


def _read_points(path: Path) -> list[Measurement]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a Parquet table ({error})") from error
    for name in COLUMNS:
        if name not in table.column_names:
            raise InputError(f"{path}: no column {name!r}{nearest(name, table.column_names)}")
    try:
        table = table.select(list(COLUMNS)).cast(_schema())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: a column has other values than it should "
                         f"({' '.join(str(error).split())})") from error
    found = []
    for number, row in enumerate(table.to_pylist(), 1):
        try:
            found.append(measurement_of(row))
        except ValueError as error:
            raise InputError(f"{path}: row {number}: {error}") from None
    return found
