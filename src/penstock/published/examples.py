"""The fleets of ``examples/`` that reproductions start from."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.load import load_fleet
from penstock.fleet.values import Fleet


def example_fleet(name: str, overrides: dict[str, Any] | None = None,
                  data: Path | None = None) -> Fleet:
    """An example by file name: the one shipped in the wheel, else the checkout's.

    Policies know their step times exactly, as those of the published systems do.
    """
    exact = {**(overrides or {}), "run.beliefs": "exact"}
    shipped = Path(str(files("penstock"))) / "examples" / name
    checkout = Path(__file__).resolve().parents[3] / "examples" / name
    for path in (shipped, checkout):
        if path.is_file():
            return load_fleet(path, exact, data)
    raise InputError(f"{shipped}: the example is missing from this installation")
