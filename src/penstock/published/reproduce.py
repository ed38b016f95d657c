"""Recomputes published figures: a system is a function of a data folder and options.

A system is added by its entry in ``registry/sources.py``, or by a plug-in.
"""

from collections.abc import Callable
from pathlib import Path

from penstock.core.errors import InputError
from penstock.published.figures import Options, Reproduction
from penstock.registry.sources import SYSTEMS


def reproduce(system: str, data: Path | None, options: Options) -> Reproduction:
    """Recompute a system's figures from ``data``, a folder laid out as the docs say; systems with
    the trait ``no_data`` need none.

    Raises InputError for an unknown system, for a folder without the files it needs, and for a
    number of requests where none are simulated that could be fewer.
    """
    entry = SYSTEMS.entry(system)
    if options.num_requests is not None and "requests" not in entry.settings:
        raise InputError(f"--requests: {system} has no runs to shorten; expected it with one of "
                         + ", ".join(name for name in SYSTEMS.names()
                                     if "requests" in SYSTEMS.entry(name).settings))
    if "no_data" not in entry.traits:
        if data is None:
            raise InputError(f"no --data; expected the folder with the data of {system}")
        if not data.is_dir():
            raise InputError(f"{data}: no such folder; expected the data of {system}")
    run: Callable[[Path | None, Options], Reproduction] = SYSTEMS.load(system)
    return run(data, options)
