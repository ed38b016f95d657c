"""Inferno's emulated load: a walk around nominal values, split unevenly over replicas.

Source: llm-inferno/control-loop pkg/loademulator. All randomness comes from the generator passed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from penstock.published.inferno.values import Load

STEP_S = 20.0
"""Time between two values of the walk, in seconds."""
RANGE_FACTOR = 10.0
"""A value stays between the nominal one over this factor, and times it."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Share of the way back to the nominal value per step, standard deviation of a step as a share
    of the nominal value, and how unevenly replicas share the load, 0 to 1."""

    theta: float = 0.2
    alpha: float = 0.1
    skew: float = 0.3


@dataclass(frozen=True, slots=True)
class Phase:
    """A ramp in which the nominal rate changes by ``ratio``; a duration of 0 s holds for ever."""

    duration_s: float
    ratio: float = 1.0


def emulated_loads(nominal: Load, generator: np.random.Generator, walk: Walk | None = None,
                   phases: Sequence[Phase] = ()) -> Iterator[Load]:
    """Yield a load every ``STEP_S``, without end; the walk begins at the nominal load."""
    walk = walk or Walk()
    load, elapsed_s = nominal, 0.0
    while True:
        load = next_load(load, nominal, generator, walk, phase_factor(phases, elapsed_s))
        yield load
        elapsed_s += STEP_S


def next_load(load: Load, nominal: Load, generator: np.random.Generator, walk: Walk,
              factor: float = 1.0) -> Load:
    """Return x + theta (nominal - x) + Normal(0, alpha nominal) of the rate and both lengths.

    ``factor`` multiplies the nominal rate. Lengths are rounded up to whole tokens.
    """
    def moved(value: float, middle: float) -> float:
        noise = float(generator.standard_normal()) * walk.alpha * middle
        return value + walk.theta * (middle - value) + noise

    rate = nominal.arrival_per_min * factor
    arrivals = moved(load.arrival_per_min, rate)
    tokens = [_tokens(ceil(moved(value, middle)), middle) for value, middle in (
        (load.input_tokens, nominal.input_tokens), (load.output_tokens, nominal.output_tokens))]
    return Load(min(max(arrivals, rate / RANGE_FACTOR), rate * RANGE_FACTOR), *tokens)


def split_rate(rate: float, num_replicas: int, skew: float,
               generator: np.random.Generator) -> tuple[float, ...]:
    """Return shares of a rate: equal with a skew of 0, entirely at random with 1."""
    weights = (1.0 - skew) / num_replicas + skew * generator.random(num_replicas)
    return tuple((rate * weights / weights.sum()).tolist())


def replica_tokens(nominal: int, skew: float, generator: np.random.Generator) -> int:
    """Return one replica's mean length: the nominal one, up to a share ``skew`` more or less."""
    if skew <= 0.0 or nominal <= 1:
        return nominal
    return _tokens(round(nominal * (1.0 + float(generator.uniform(-skew, skew)))), nominal)


def phase_factor(phases: Sequence[Phase], elapsed_s: float) -> float:
    """Return the factor on the nominal rate: chained linear ramps, the last one's end for ever."""
    factor, start_s = 1.0, 0.0
    for phase in phases:
        if phase.duration_s == 0.0:
            break
        passed = (elapsed_s - start_s) / phase.duration_s
        if passed < 1.0:
            return factor * (1.0 + passed * (phase.ratio - 1.0))
        factor, start_s = factor * phase.ratio, start_s + phase.duration_s
    return factor


def _tokens(value: int, nominal: int) -> int:
    least = max(ceil(nominal / RANGE_FACTOR), 1)
    return min(max(value, least), int(nominal * RANGE_FACTOR))
