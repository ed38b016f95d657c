"""Where a command computes: the cores of this machine, or a Ray cluster."""

import os
from typing import TYPE_CHECKING

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.workers import Executor

_PATIENCE_S = 2.0


def executor(jobs: int, on: str | None) -> "Executor":
    """Return ``jobs`` processes, or a Ray cluster that computes at most so many pieces at once.

    For 0 jobs: one process for each core once work has taken a while, or as many as a cluster has
    cores. Raises InputError for another place than Ray.
    """
    from penstock.experiment.workers import Cores, num_cores

    if on is None:
        return Cores(jobs) if jobs else Cores(num_cores(), _PATIENCE_S)
    from penstock.experiment.on_ray import OnRay

    return OnRay(_address(on), jobs)


def _address(on: str) -> str | None:
    """The address in the spelling of ``--on``; for ``ray`` alone that of RAY_ADDRESS, if any."""
    if on.startswith("ray://") and on != "ray://":
        return on
    name, colon, address = on.partition(":")
    host, _, port = address.rpartition(":")
    if name != "ray" or (colon and not (host and port.isdigit())):
        raise InputError(f"--on {on[:80]!r}: expected ray, ray:HOST:PORT or ray://HOST:PORT")
    return address or os.environ.get("RAY_ADDRESS") or None
