"""Whether tables that others wrote can be in seconds and GiB."""

from collections.abc import Iterable
from pathlib import Path

from penstock.catalog.catalog import Catalog
from penstock.core.errors import InputError
from penstock.perf.fingerprint.plausible import implausible
from penstock.perf.profiles.folder import is_profile, read_profile
from penstock.perf.profiles.rows import ProfiledRun


def unit_problems(runs: Iterable[ProfiledRun], catalog: Catalog) -> list[str]:
    """Return one line for each catalog model with impossible values. Values must be impossible on
    all accelerators, because tables do not say where they were measured."""
    by_model: dict[str, list[ProfiledRun]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    found = []
    for name, own in by_model.items():
        try:
            model = catalog.model(name)
        except InputError:
            continue  # whoever needs its architecture will say so
        found.append(implausible(own, model, list(catalog.accelerators.values())))
    return [problem for problem in found if problem]


def check_units(runs: Iterable[ProfiledRun], catalog: Catalog) -> None:
    """Raises InputError with the first of them."""
    for problem in unit_problems(runs, catalog):
        raise InputError(problem)


def is_foreign(path: Path) -> bool:
    """Whether a file or profile was written by somebody else: what Penstock measures is in seconds
    and bytes, however slow the machine is."""
    return not is_profile(path) or read_profile(path).document.get("kind") == "imported"
