"""Columns that a trace file calls by other names, stated by the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.core.errors import InputError, nearest, one_of, suggested
from penstock.workload.clock import UNITS, Unit, unit_of
from penstock.workload.columns import ALIASES, LABELS, REQUIRED, listed, normal_name


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Names of a trace file's columns, and the unit of its clock.

    ``names`` are pairs of Penstock's name, in any known spelling, and the file's. A ``clock`` of
    None is recognised by the file's first time.
    """

    names: tuple[tuple[str, str], ...] = ()
    clock: Unit | None = None


AS_KNOWN = ColumnMap()


def column_map(names: Mapping[str, str], clock: str | None = None) -> ColumnMap:
    """The map of a fleet file or of options. The clock's column may end in its unit: ``ts:ms``.

    Raises InputError for an unknown unit, and for two units. Names are checked against the file's
    columns when the file is read.
    """
    unit = None if clock is None else unit_of(clock)
    pairs = []
    for own, theirs in names.items():
        name, _, ending = theirs.rpartition(":")
        if _column(own) == "arrival_s" and name and ending in UNITS:
            if unit not in (None, ending):
                raise InputError(f"two clocks, {unit} and {own}={theirs[:60]}; keep one of them")
            theirs, unit = name, unit_of(ending)
        pairs.append((own, theirs))
    return ColumnMap(tuple(pairs), unit)


def mapped_places(where: str, header: Sequence[str], mapping: ColumnMap) -> dict[str, int]:
    """Positions in ``header`` of the columns that a map names, by Penstock's usual name.

    Raises InputError for a name that is neither Penstock's nor the file's.
    """
    found: dict[str, int] = {}
    for own, theirs in mapping.names:
        column = _column(own)
        if column is None:
            names = listed(header).replace("'", "")
            raise InputError(f"{where}: unknown name {own[:60]!r} in the map{_nearest_own(own)}; "
                             f"the file has {names}")
        if column in found:
            raise InputError(f"{where}: the map names {column!r} twice, also as {own!r}")
        place = _place(theirs, header)
        if place is None:
            close = nearest(theirs[:60], [name.strip() for name in header])
            hint = close if suggested(close) else ""
            raise InputError(f"{where}: no column {theirs[:60]!r}, which the map names for "
                             f"{own!r}; found {listed(header)}{hint}")
        found[column] = place
    return found


def _column(own: str) -> str | None:
    """Penstock's usual name for a column."""
    name = normal_name(own)
    found = next((column for column, spellings in ALIASES.items() if name in spellings), None)
    return "arrival_s" if found == "timestamp" else found


def _nearest_own(own: str) -> str:
    hint = nearest(own[:60], {name for spellings in ALIASES.values() for name in spellings})
    return hint if suggested(hint) else one_of([*REQUIRED, *LABELS])


def _place(theirs: str, header: Sequence[str]) -> int | None:
    for same in (str, normal_name):
        names = [same(name) for name in header]
        if same(theirs) in names:
            return names.index(same(theirs))
    return None
