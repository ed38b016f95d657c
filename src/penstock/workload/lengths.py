"""Prompt and output lengths: how many tokens each request has."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.workload.trace import Trace
from penstock.workload.workload import FloatColumn, IntColumn


class LengthPairs(NamedTuple):
    """Drawn lengths; ``rows`` tells which trace rows they are, None when they are synthetic."""

    prompt_tokens: IntColumn
    output_tokens: IntColumn
    rows: NDArray[np.int64] | None = None


class LengthModel(Protocol):
    """A source of (prompt, output) lengths."""

    @property
    def max_output_tokens(self) -> int:
        """The longest output it can give."""

    def draw(self, rng: np.random.Generator, num: int) -> LengthPairs:
        """``num`` pairs; the first of them do not depend on ``num``."""


class Marginal(Protocol):
    """The distribution of one length."""

    @property
    def max_tokens(self) -> int:
        """Its largest value."""

    def quantile(self, shares: FloatColumn) -> FloatColumn:
        """Tokens, not yet rounded, below which each of ``shares`` (0 to 1) of requests lie."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same length always."""

    tokens: int

    @property
    def max_tokens(self) -> int:
        """See Marginal."""
        return self.tokens

    def quantile(self, shares: FloatColumn) -> FloatColumn:
        """See Marginal."""
        return np.full(len(shares), float(self.tokens))


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """Quantiles with straight lines between them, in ln(tokens) over the share.

    Both columns rise, from share 0 to share 1. A real trace keeps its spikes in 45 points where
    lognormal and gamma fits do not.
    """

    shares: tuple[float, ...]
    tokens: tuple[float, ...]

    @property
    def max_tokens(self) -> int:
        """See Marginal."""
        return round(self.tokens[-1])

    def quantile(self, shares: FloatColumn) -> FloatColumn:
        """See Marginal."""
        return np.exp(np.interp(shares, self.shares, np.log(self.tokens)))

    @property
    def mean(self) -> float:
        """Mean tokens before rounding: the integral of the quantile function."""
        tokens = np.array(self.tokens)
        ratio = np.log(tokens[1:] / tokens[:-1])
        chord = np.diff(tokens)
        pieces = np.divide(chord, ratio, out=tokens[:-1].copy(), where=ratio > 0)
        return float((pieces * np.diff(self.shares)).sum())


@dataclass(frozen=True, slots=True)
class LognormalMixture:
    """A weighted sum of lognormals, cut at ``max_tokens`` (longer draws become that long).

    ``mus`` and ``sigmas`` are of ln(tokens); ``weights`` are relative.
    """

    weights: tuple[float, ...]
    mus: tuple[float, ...]
    sigmas: tuple[float, ...]
    max_tokens: int

    def quantile(self, shares: FloatColumn) -> FloatColumn:
        """See Marginal. The mixture's distribution function is inverted on a grid of ln(tokens)."""
        grid = np.linspace(0.0, np.log(self.max_tokens), 4097)
        mus, sigmas = np.array(self.mus)[:, None], np.array(self.sigmas)[:, None]
        weights = np.array(self.weights) / np.sum(self.weights)
        below = weights @ _normal_share((grid - mus) / sigmas)
        # Equal values would leave the inverse open; the first grid point that has it is meant.
        rising = np.concatenate(([True], np.diff(below) > 0))
        return np.exp(np.interp(shares, below[rising], grid[rising]))


@dataclass(frozen=True, slots=True)
class LengthDistribution:
    """Prompt and output from two distributions, tied by a Gaussian copula of correlation ``rho``.

    0 draws them independently; Spearman's coefficient is then 6 / pi * asin(rho / 2).
    """

    prompt: Marginal
    output: Marginal
    rho: float = 0.0

    @property
    def max_output_tokens(self) -> int:
        """See LengthModel."""
        return self.output.max_tokens

    def draw(self, rng: np.random.Generator, num: int) -> LengthPairs:
        """See LengthModel."""
        shares = rng.random((num, 2)) if self.rho == 0.0 else self._tied_shares(rng, num)
        return LengthPairs(_whole(self.prompt, shares[:, 0]), _whole(self.output, shares[:, 1]))

    def _tied_shares(self, rng: np.random.Generator, num: int) -> FloatColumn:
        normal = rng.standard_normal((num, 2))
        normal[:, 1] = self.rho * normal[:, 0] + sqrt(1.0 - self.rho**2) * normal[:, 1]
        return _normal_share(normal)


def _normal_share(deviates: FloatColumn) -> FloatColumn:
    """The standard normal distribution function."""
    # Importing scipy's takes longer than this does for a million values.
    shares = map(erfc, (deviates * -sqrt(0.5)).ravel().tolist())
    return 0.5 * np.fromiter(shares, np.float64, deviates.size).reshape(deviates.shape)


def _whole(marginal: Marginal, shares: FloatColumn) -> IntColumn:
    """Tokens at ``shares``, rounded, at least 1."""
    return np.clip(np.rint(marginal.quantile(shares)), 1, marginal.max_tokens).astype(np.int64)


@dataclass(frozen=True, slots=True)
class TraceLengths:
    """The rows of a trace, each prompt with its own output, in order or shuffled.

    A trace that is too short starts again; shuffled, each round has an order of its own.
    """

    trace: Trace
    shuffled: bool = True

    @property
    def max_output_tokens(self) -> int:
        """See LengthModel."""
        return int(self.trace.output_tokens.max())

    def draw(self, rng: np.random.Generator, num: int) -> LengthPairs:
        """See LengthModel."""
        size = len(self.trace)
        rounds = -(-num // size)
        orders = [rng.permutation(size) if self.shuffled else np.arange(size)
                  for _ in range(rounds)]
        rows = np.concatenate(orders)[:num].astype(np.int64) if num else np.zeros(0, np.int64)
        return LengthPairs(self.trace.prompt_tokens[rows], self.trace.output_tokens[rows], rows)


def quantile_table(shares: Sequence[float], tokens: Sequence[float]) -> QuantileTable:
    """A QuantileTable with its columns checked.

    Raises InputError unless shares rise strictly from 0 to 1 and tokens from at least 1.
    """
    if len(shares) != len(tokens) or len(shares) < 2:
        raise InputError(f"a quantile table has {len(shares)} shares and {len(tokens)} token "
                         "counts; expected as many of one as of the other, at least 2")
    share_steps, token_steps = np.diff(shares), np.diff(tokens)
    if shares[0] != 0 or shares[-1] != 1 or not (share_steps > 0).all():
        raise InputError("the shares of a quantile table must rise from 0 to 1")
    if not tokens[0] >= 1 or not (token_steps >= 0).all() or not np.isfinite(tokens[-1]):
        raise InputError("the tokens of a quantile table must not fall, nor start below 1")
    return QuantileTable(tuple(map(float, shares)), tuple(map(float, tokens)))


def lognormal_mixture(weights: Sequence[float], mus: Sequence[float], sigmas: Sequence[float],
                      max_tokens: int) -> LognormalMixture:
    """A LognormalMixture with its parts checked. Raises InputError."""
    if not len(weights) == len(mus) == len(sigmas) > 0:
        raise InputError(f"a lognormal mixture has {len(weights)} weights, {len(mus)} mus and "
                         f"{len(sigmas)} sigmas; expected equally many")
    if not all(w > 0 for w in weights) or not all(s > 0 for s in sigmas):
        raise InputError("weights and sigmas of a lognormal mixture must be positive")
    if max_tokens < 1:
        raise InputError(f"max_tokens of a lognormal mixture is {max_tokens}; expected at least 1")
    return LognormalMixture(tuple(weights), tuple(mus), tuple(sigmas), max_tokens)


def length_distribution(prompt: Marginal, output: Marginal, rho: float = 0.0
                        ) -> LengthDistribution:
    """A LengthDistribution; raises InputError for a ``rho`` outside -1 to 1."""
    if not -1.0 <= rho <= 1.0:
        raise InputError(f"rho is {rho:g}; expected -1 to 1")
    return LengthDistribution(prompt, output, rho)
