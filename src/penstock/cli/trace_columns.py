"""Options that name the columns of a trace file, and the assumptions that nobody stated."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.workload.column_map import ColumnMap


def named_columns(text: str | None) -> dict[str, str]:
    """The pairs of ``--map``: Penstock's names, each with the file's. Raises InputError."""
    found: dict[str, str] = {}
    for pair in [] if text is None else text.split(","):
        own, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not own or not theirs:
            raise InputError(f"--map: found {pair.strip()[:60]!r}; expected Penstock's name, '=' "
                             "and the file's name, such as input_tokens=input_len")
        if own in found:
            raise InputError(f"--map: {own[:60]!r} appears twice")
        found[own] = theirs
    return found


def column_map_of(text: str | None, clock: str | None) -> "ColumnMap":
    """The columns and the clock of ``--map`` and ``--clock``. Raises InputError."""
    from penstock.workload.column_map import column_map

    try:
        return column_map(named_columns(text), clock)
    except InputError as error:
        said = str(error)
        raise InputError(said if said.startswith("--map") else f"--map: {said}") from None


def columns_beside(trace: Path | None, text: str | None, clock: str | None) -> "ColumnMap":
    """The columns and the clock of the file of ``--trace``, whose assumed clock is said on stderr.
    Raises InputError where they stand beside no such file."""
    from penstock.cli.console import note
    from penstock.registry.sources import assumed_clock

    columns = column_map_of(text, clock)
    if trace is None and (text is not None or clock is not None):
        raise InputError(f"{'--clock' if text is None else '--map'}: stands beside no trace file; "
                         "expected --trace FILE")
    if trace is not None and (assumed := assumed_clock(trace, None, columns)):
        note(assumed)
    return columns


def note_clocks(fleet: "Fleet") -> None:
    """Say on stderr how the clocks of the fleet's trace files are read where nobody states it, and
    what is assumed of adapters.

    A command that draws no traffic needs no usable trace, and a reader of the traffic says why a
    trace is unusable.
    """
    from penstock.cli.console import note
    from penstock.fleet.adapter_costs import lora_assumptions
    from penstock.fleet.sources import assumed_clocks

    for text in lora_assumptions(fleet):
        note(text)
    with suppress(InputError):
        for text in assumed_clocks(fleet):
            note(text)
