"""Length distributions of public traces that ship with Penstock."""

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.workload.lengths import LengthDistribution, QuantileTable


def length_table(name: str) -> LengthDistribution:
    """The shipped distribution ``name``, such as ``azure-2023-code``.

    Prompt and output are tied by the trace's own copula correlation where that is not near 0.
    Raises InputError for an unknown name.
    """
    tables = _tables()
    if name not in tables:
        raise InputError(f"unknown length table {name!r}{nearest(name, tables)}")
    entry = tables[name]
    return LengthDistribution(_marginal(entry["prompt"]), _marginal(entry["output"]),
                              float(entry["rho"]))


def length_table_names() -> tuple[str, ...]:
    """The names that ``length_table`` knows."""
    return tuple(sorted(_tables()))


def length_table_source(name: str) -> str:
    """Return the source of a shipped table's numbers."""
    return str(_tables()[name]["source"])


def _marginal(entry: dict[str, Any]) -> QuantileTable:
    shares = np.array(entry["shares"], np.float64)
    return QuantileTable(tuple(shares.tolist()), tuple(map(float, entry["tokens"])))


@cache
def _tables() -> dict[str, Any]:
    import yaml

    text = (files("penstock.workload") / "data" / "lengths.yaml").read_text(encoding="utf-8")
    # The C loader is five times faster, and absent from some builds of PyYAML.
    tables: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return tables
