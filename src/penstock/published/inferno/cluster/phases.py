"""Phases of the emulated load, from Inferno's YAML file."""

from pathlib import Path

from penstock.core.errors import InputError
from penstock.fleet.files import read_text
from penstock.fleet.marked_yaml import read_yaml
from penstock.published.autoscalers.files.fields import Fields, duration_s
from penstock.published.inferno.emulated_load import Phase

_MOST_RATIO = 1e6


def read_phases(path: Path) -> tuple[Phase, ...]:
    """Read ``phases``, a list of ``duration`` and ``ratio``. Raises InputError with file, line and
    field."""
    marked = read_yaml(read_text(path, "phases of a load"), str(path))
    if not isinstance(marked.data, dict):
        raise InputError(f"{path}: expected a mapping with phases")
    top = Fields(marked)
    rows = top.rows("phases")
    top.end()
    if not rows:
        raise InputError(f"{path}: phases: found none; expected a list of duration and ratio")
    phases = [_phase(row) for row in rows]
    for row, phase in zip(rows[:-1], phases, strict=False):
        if not phase.duration_s:
            raise row.error("duration", "a phase of 0s holds for ever; expected it at the end")
    return tuple(phases)


def _phase(row: Fields) -> Phase:
    duration = duration_s(row.raw("duration"))
    if duration is None:
        raise row.error("duration", "expected a duration such as 90s, 2m or 1m30s")
    ratio = row.number("ratio", 1.0, high=_MOST_RATIO)
    row.end()
    if duration and not ratio:
        raise row.error("ratio", "found 0; expected more than 0")
    return Phase(duration, ratio)
