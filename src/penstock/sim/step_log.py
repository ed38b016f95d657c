"""Every step that a replica ran, for fits of step times."""

from array import array

import numpy as np

from penstock.core.step import StepFeatures
from penstock.core.units import PS_PER_S
from penstock.metrics.definitions import FloatColumn

_COLUMNS = 7


class StepLog:
    """Runs of equal steps: when each began and ended, the number of steps, and their features.

    Within a run the context of decodes grows by a token each step, and the past of its only prompt
    by a chunk; ``columns`` has their means.
    """

    def __init__(self) -> None:
        self._rows = array("d")

    def add(self, features: StepFeatures, num_steps: int, start_ps: int, end_ps: int) -> None:
        """Append a run of ``num_steps`` steps, of which ``features`` are the first's."""
        middle = (num_steps - 1) / 2.0
        prefill, work, decodes, context = features
        self._rows.extend((start_ps, end_ps, num_steps, prefill, work + middle * prefill**2,
                           decodes, context + middle * decodes))

    def columns(self) -> FloatColumn:
        """Return a row per run: start and end in seconds, number of steps, prefill tokens,
        mean attention work, decodes, mean context tokens."""
        rows = np.frombuffer(self._rows, dtype=np.float64).reshape(-1, _COLUMNS).copy()
        rows[:, :2] /= PS_PER_S
        return rows
