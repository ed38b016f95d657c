"""Value of another policy, from decisions that were logged with their propensities.

A policy that explores (with probability epsilon it takes any candidate) logs for each decision how
likely it was to choose as it did. That is enough to judge another policy without running it.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError

Values = NDArray[np.float64]
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, eq=False)
class LoggedDecisions:
    """Decisions of a logging policy among the same candidates.

    ``chosen`` (n) is the candidate taken, ``propensities`` (n) the probability with which the
    logging policy took it, above 0; ``rewards`` (n) what came of it: quality, utility, money.
    """

    chosen: NDArray[np.intp]
    propensities: Values
    rewards: Values

    def __post_init__(self) -> None:
        """Raises InputError for unequal lengths and impossible numbers."""
        if not len(self.chosen) == len(self.propensities) == len(self.rewards):
            raise InputError(f"{len(self.chosen)} choices, {len(self.propensities)} propensities, "
                             f"{len(self.rewards)} rewards; expected as many of each")
        if len(self.chosen) < 2:
            raise InputError(f"{len(self.chosen)} decisions; expected at least 2")
        if not ((self.propensities > 0) & (self.propensities <= 1)).all():
            raise InputError("propensities: expected numbers above 0, at most 1; a choice that was "
                             "impossible cannot have been logged")
        if not np.isfinite(self.rewards).all():
            raise InputError("rewards: expected finite numbers")


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Mean reward expected of a policy with its 95 % interval.

    ``effective_decisions`` is how many unweighted ones the estimate is worth (Kish): few of many
    means that the logging policy hardly ever did what the other would.
    """

    mean: float
    low: float
    high: float
    effective_decisions: float


def inverse_propensity(logged: LoggedDecisions, policy: Values, *,
                       self_normalised: bool = True) -> PolicyValue:
    """Weighs each reward by how much likelier the policy is to choose as was chosen.

    ``policy`` (n, candidates) has its probabilities. Plain weighting (Horvitz and Thompson, 1952)
    is unbiased; self-normalised (Swaminathan and Joachims, NeurIPS 2015) is steadier, its bias
    vanishes with n, and it never leaves the range of the rewards. Raises InputError.
    """
    weights = _weights(logged, policy)
    if not self_normalised:
        return _value(weights * logged.rewards, weights)
    total = float(weights.sum())
    if total <= 0.0:
        raise InputError("the policy never chooses what was chosen: nothing can be said of it")
    mean = float(weights @ logged.rewards) / total
    # The ratio's linearised terms: their mean is the estimate, their spread its error.
    terms = mean + weights * (logged.rewards - mean) * len(weights) / total
    return _value(terms, weights)


def doubly_robust(logged: LoggedDecisions, policy: Values, expected: Values) -> PolicyValue:
    """Return the policy's value by ``expected`` rewards (n, candidates), corrected by observed
    rewards.

    Right when either the propensities or the expectations are (Dudik, Langford and Li, ICML 2011),
    and narrower than weighting alone where expectations are good. Raises InputError.
    """
    weights = _weights(logged, policy)
    if expected.shape != policy.shape or not np.isfinite(expected).all():
        raise InputError(f"expected rewards of shape {expected.shape}; expected finite numbers of "
                         f"shape {policy.shape}")
    rows = np.arange(len(weights))
    surprise = logged.rewards - expected[rows, logged.chosen]
    return _value((policy * expected).sum(axis=1) + weights * surprise, weights)


def epsilon_greedy(best: NDArray[np.intp], num_candidates: int, epsilon: float) -> Values:
    """Probabilities (n, candidates) of taking ``best``, or with ``epsilon`` any candidate."""
    found = np.full((len(best), num_candidates), epsilon / num_candidates)
    found[np.arange(len(best)), best] += 1.0 - epsilon
    return found


def _weights(logged: LoggedDecisions, policy: Values) -> Values:
    rows = len(logged.chosen)
    if policy.ndim != 2 or len(policy) != rows:
        raise InputError(f"policy of shape {policy.shape}; expected ({rows}, candidates)")
    if (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1.0, atol=1e-6):
        raise InputError("policy: expected probabilities that sum to 1 in every row")
    if logged.chosen.min() < 0 or logged.chosen.max() >= policy.shape[1]:
        raise InputError(f"candidate {int(logged.chosen.max())} was chosen; the policy has "
                         f"{policy.shape[1]}")
    found: Values = policy[np.arange(rows), logged.chosen] / logged.propensities
    return found


def _value(terms: Values, weights: Values) -> PolicyValue:
    mean = float(terms.mean())
    error = _Z95 * float(terms.std(ddof=1)) / sqrt(len(terms))
    squares = float(weights @ weights)
    return PolicyValue(mean, mean - error, mean + error,
                       float(weights.sum())**2 / squares if squares else 0.0)
