"""Published figures recomputed: one module per system, one small interface.

A system is a function from a data folder and options to a Reproduction. Another system joins by
adding its module and one line to SYSTEMS.
"""

from collections.abc import Callable
from pathlib import Path

from penstock.core.errors import InputError, nearest
from penstock.experiment.reproduce.figures import Options, Reproduction


def _vidur(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.vidur import reproduce_vidur
    return reproduce_vidur(data, options)


def _niyama(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.niyama import reproduce_niyama
    return reproduce_niyama(data, options)


def _inferno(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.inferno.run import reproduce_inferno
    return reproduce_inferno(data, options)


def _routebalance(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.routebalance.run import reproduce_routebalance
    return reproduce_routebalance(data, options)


def _kernels(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.kernels.run import reproduce_kernels
    return reproduce_kernels(data, options)


def _maveriq(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.maveriq.run import reproduce_maveriq
    return reproduce_maveriq(data, options)


def _maveriq_plans(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.maveriq.run import reproduce_maveriq_plans
    return reproduce_maveriq_plans(data, options)


def _sincere(data: Path, options: Options) -> Reproduction:
    from penstock.experiment.reproduce.sincere.run import reproduce_sincere
    return reproduce_sincere(data, options)


SYSTEMS: dict[str, Callable[[Path, Options], Reproduction]] = {
    "inferno": _inferno, "kernels": _kernels, "maveriq": _maveriq,
    "maveriq-plans": _maveriq_plans, "niyama": _niyama, "routebalance": _routebalance,
    "sincere": _sincere, "vidur": _vidur}

SHORTENED = ("maveriq-plans", "niyama", "routebalance")
"""Systems of which something simulated may be shorter than published; of the others every figure is
of all of their requests or of none."""


def reproduce(system: str, data: Path, options: Options) -> Reproduction:
    """Recompute a system's figures from ``data``, a folder laid out as the docs say.

    Raises InputError for an unknown system, for a folder without the files it needs, and for a
    number of requests where none are simulated that could be fewer.
    """
    if system not in SYSTEMS:
        raise InputError(f"unknown system {system!r}{nearest(system, SYSTEMS)}")
    if options.num_requests is not None and system not in SHORTENED:
        raise InputError(f"--requests: {system} has no runs to shorten; expected it with one of "
                         + ", ".join(SHORTENED))
    if not data.is_dir():
        raise InputError(f"{data}: no such folder; expected the data of {system}")
    return SYSTEMS[system](data, options)
