"""Where a command computes: the cores of this machine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.experiment.workers import Executor

_PATIENCE_S = 2.0


def executor(jobs: int) -> "Executor":
    """Return ``jobs`` processes; for 0 one for each core, once work has taken a while."""
    from penstock.experiment.workers import Cores, num_cores

    return Cores(jobs) if jobs else Cores(num_cores(), _PATIENCE_S)
