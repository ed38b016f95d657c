"""MaverIQ's estimators from runs of whole models, as published: ``L1`` and ``M1``.

Three runs stand for all configurations: on one accelerator, with two stages, and with two ranks.
Where a model does not fit on one, the same equations are solved from runs with more stages and
ranks (github.com/UT-SysML/MaverIQ, 067d7a1); the solution for runs with two and three stages is
upstream's, in which one power of two is not what the equations say.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.configuration import Configuration
from penstock.perf.fingerprint.cuts import Cuts, Key
from penstock.published.maveriq.fingerprints import Exponents

_SHORT, _LONGER = 10, 20
"""Output lengths whose runs tell the time to the first token and per token."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A model on one accelerator, what a second rank adds and what a second stage adds."""

    alone: float
    ranks: float
    stages: float


@dataclass(frozen=True, slots=True)
class FullModelEstimator:
    """Estimates from ``runs`` of whole models, at the parallel settings that the method needs."""

    runs: Cuts
    exponents: Mapping[tuple[str, str], Exponents]

    def latency_s(self, model: str, num_layers: int, configuration: Configuration,
                  output_tokens: int) -> float | None:
        """L1 in seconds for one request; None where a run or the exponents are missing."""
        powers = self.exponents.get((configuration.precision, configuration.kv_precision))
        if powers is None:
            return None
        at = {spread: self._seconds(model, num_layers, spread, configuration, output_tokens)
              for spread in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2))}
        parts = _latency_parts(at, powers)
        if parts is None:
            return None
        tensor, pipeline = (configuration.parallelism.tensor, configuration.parallelism.pipeline)
        return (parts.alone / (tensor * math.pow(pipeline, powers.alpha))
                + parts.ranks * math.pow(tensor - 1.0, powers.beta)
                / math.pow(pipeline, powers.gamma)
                + parts.stages * math.pow(pipeline - 1.0, powers.delta))

    def memory_bytes(self, model: str, num_layers: int,
                     configuration: Configuration) -> float | None:
        """M1 in bytes over all accelerators, after the shortest answers; None where a run is
        missing."""
        at = {spread: self.runs.shortest_bytes(_key(model, spread, configuration)).get(num_layers)
              for spread in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2))}
        parts = _memory_parts(at)
        if parts is None:
            return None
        tensor, pipeline = (configuration.parallelism.tensor, configuration.parallelism.pipeline)
        return (parts.alone + (tensor - 1) * parts.ranks
                + tensor * (pipeline - 1) * parts.stages)

    def _seconds(self, model: str, num_layers: int, spread: tuple[int, int],
                 configuration: Configuration, output_tokens: int) -> float | None:
        by_output = self.runs.seconds(_key(model, spread, configuration))
        short, longer = (by_output.get(output, {}).get(num_layers)
                         for output in (_SHORT, _LONGER))
        if short is None or longer is None:
            return None
        tpot_s = (longer - short) / (_LONGER - _SHORT)
        return short + (output_tokens - _SHORT) * tpot_s


def _latency_parts(at: Mapping[tuple[int, int], float | None], powers: Exponents) -> Parts | None:
    alpha, gamma, delta = powers.alpha, powers.gamma, powers.delta
    one, two, three, four = (at[1, stages] for stages in (1, 2, 3, 4))
    pair, quad = at[2, 1], at[2, 2]
    if one is not None and two is not None:
        ranks = 0.0 if pair is None else max(0.0, pair - one / 2.0)
        return Parts(max(0.0, one), ranks, max(0.0, two - one / math.pow(2.0, alpha)))
    if two is not None and three is not None and pair is not None:
        alone = (three - math.pow(2.0, delta) * two) / (
            math.pow(3.0, -alpha) - math.pow(2.0, delta - 1.0))
        return Parts(alone, pair - alone / 2.0, two - alone / math.pow(2.0, alpha))
    if three is not None and four is not None and quad is not None:
        alone = (four - math.pow(1.5, delta) * three) / (
            math.pow(4.0, -alpha) - math.pow(3.0, delta - alpha) / math.pow(2.0, delta))
        stages = (three - alone / math.pow(3.0, alpha)) / math.pow(2.0, delta)
        ranks = math.pow(2.0, gamma) * (quad - alone / math.pow(2.0, alpha + 1.0) - stages)
        return Parts(alone, ranks, stages)
    return None


def _memory_parts(at: Mapping[tuple[int, int], float | None]) -> Parts | None:
    one, two, three, four = (at[1, stages] for stages in (1, 2, 3, 4))
    pair, quad = at[2, 1], at[2, 2]
    if one is not None and two is not None:
        return Parts(one, 0.0 if pair is None else max(0.0, pair - one), max(0.0, two - one))
    if two is not None and three is not None and pair is not None:
        return Parts(2.0 * two - three, three + pair - 2.0 * two, three - two)
    if three is not None and four is not None and quad is not None:
        return Parts(3.0 * three - 2.0 * four, quad - three, four - three)
    return None


def _key(model: str, spread: tuple[int, int], configuration: Configuration) -> Key:
    return Key(model, *spread, configuration.precision, configuration.kv_precision)
