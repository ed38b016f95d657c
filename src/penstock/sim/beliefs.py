"""Errors of the policies' beliefs."""

from dataclasses import dataclass

from penstock.predict.length import HistoryLengths, LengthPredictor, ScaledLengths


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Errors of the policies' beliefs, for experiments on robustness: factors on predicted step
    times and output lengths. True values do not change."""

    step_time_factor: float = 1.0
    length_factor: float = 1.0

    def lengths(self) -> LengthPredictor:
        """Return what a scheduler believes about outputs before it has seen any."""
        learnt = HistoryLengths()
        return learnt if self.length_factor == 1.0 else ScaledLengths(learnt, self.length_factor)


NO_ERRORS = Beliefs()
