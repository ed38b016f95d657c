"""Requests drawn from means and variabilities, where nobody has a trace of them."""

import numpy as np
from scipy.special import gammaincinv, ndtri  # type: ignore[import-untyped]

from penstock.perf.queueing.parameters import RequestSize, Variability
from penstock.perf.queueing.steps import Array, RequestMix

NUM_DRAWN = 20_000


def drawn_mix(size: RequestSize, variability: Variability, rng: np.random.Generator,
              num: int = NUM_DRAWN) -> RequestMix:
    """Requests of one class with lognormal lengths and gamma gaps, independent of each other.

    Their distributions are met exactly (evenly spaced quantiles); ``rng`` decides the order alone.
    """
    prompts = _lognormal(size.input_tokens, variability.prompt_scv, num, rng)
    outputs = np.maximum(_lognormal(size.output_tokens, variability.output_scv, num, rng), 1.0)
    return RequestMix(prompts, outputs, np.zeros(num, np.int64),
                      drawn_gaps(variability.arrivals_scv, num, rng))


def drawn_gaps(scv: float, num: int, rng: np.random.Generator) -> Array:
    """Gaps of mean 1 with a gamma distribution (exponential for 1) in an order drawn by chance."""
    if scv <= 0.0:
        return np.ones(num)
    gaps = gammaincinv(1.0 / scv, _shares(num)) * scv
    return np.asarray(rng.permutation(gaps / gaps.mean()))


def _lognormal(mean: float, scv: float, num: int, rng: np.random.Generator) -> Array:
    if scv <= 0.0:
        return np.full(num, mean)
    drawn = np.exp(ndtri(_shares(num)) * np.sqrt(np.log1p(scv)))
    return np.asarray(rng.permutation(mean * drawn / drawn.mean()))


def _shares(num: int) -> Array:
    return (np.arange(num) + 0.5) / num
