"""Entries of runs that nobody ran."""

from typing import Any

from penstock.experiment.runs.kept import KeptRun


def kept_run(number: int = 0, **changes: Any) -> KeptRun:
    """An entry yet without an id; later numbers began later."""
    return KeptRun(id="", kind="simulate", status="met", folder=f"/runs/{number}",
                   digest=f"{number:032x}", begun_s=1000.0 + number)._replace(**changes)


def numbered(number: int) -> str:
    return f"{number:08x}"
