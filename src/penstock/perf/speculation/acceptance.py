"""Acceptance of drafted tokens by their position, from all forms in which it is published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from penstock.core.errors import InputError

_SIGMAS = 1.96  # an interval of 95 % reaches so far
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Probability that the drafts up to each position are all accepted.

    ``rates[i]`` is of the first i + 1 drafts together, so the rates never increase: vLLM's
    ``num_accepted_tokens_per_pos`` over its number of drafts. ``low`` and ``high`` bound each rate
    with 95 % where the rates were counted.
    """

    rates: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    source: str = ""

    @property
    def depth(self) -> int:
        """Positions of which the rate is known."""
        return len(self.rates)

    @property
    def conditional(self) -> tuple[float, ...]:
        """Probability that each draft is accepted where all before it were."""
        before = (1.0, *self.rates)
        return tuple(rate / prior if prior else 0.0
                     for rate, prior in zip(self.rates, before, strict=False))

    def rate(self, position: int) -> float:
        """Return the rate of a position, counted from 0. Beyond the known ones, the last
        conditional rate goes on."""
        if position < len(self.rates):
            return self.rates[position]
        last = self.conditional[-1]
        return self.rates[-1] * float(last ** (position + 1 - len(self.rates)))

    def tokens_per_turn(self, depth: int) -> float:
        """Return the expected tokens of a turn that verifies ``depth`` drafts: the accepted ones,
        and the one that the model itself gives."""
        return 1.0 + sum(self.rate(position) for position in range(depth))


def from_rates(rates: Sequence[float], source: str = "") -> Acceptance:
    """Return the acceptance with these rates. Raises InputError for a rate outside 0 to 1, and for
    one above the rate before it."""
    if not rates:
        raise InputError("no rates; expected one for each position")
    before = 1.0
    for position, rate in enumerate(rates, 1):
        if not 0.0 <= rate <= before + _ROUNDING:
            raise InputError(f"rate {rate:g} of position {position}; expected 0 to {before:g}: a "
                             "draft counts as accepted only where all before it are")
        before = min(rate, before)
    return Acceptance(tuple(rates), source=source)


def from_conditional(rates: Sequence[float], source: str = "") -> Acceptance:
    """Return the acceptance whose drafts are each accepted with these probabilities where all
    before them were. Raises InputError for a probability outside 0 to 1."""
    found, together = [], 1.0
    for position, rate in enumerate(rates, 1):
        if not 0.0 <= rate <= 1.0:
            raise InputError(f"probability {rate:g} of position {position}; expected 0 to 1")
        together *= rate
        found.append(together)
    return from_rates(found, source)


def from_lengths(lengths: Mapping[int, float], source: str = "") -> Acceptance:
    """Return the acceptance of mean lengths by depth, the model's own token included.

    The rate of position k is the length at k less the length at k - 1. Between depths that are
    stated the conditional rate is constant. Noise of measurements may make a rate larger than the
    one before: such neighbours are averaged (pool adjacent violators), which keeps their sum.
    Raises InputError for a length that no acceptance has.
    """
    if not lengths:
        raise InputError("no lengths; expected a mean length for at least one depth")
    rates: list[float] = []
    depth, length = 0, 1.0
    for k, mean in sorted(lengths.items()):
        if k < 1 or not 1.0 <= mean <= k + 1 + _ROUNDING:
            raise InputError(f"length {mean:g} at {k} drafted tokens; expected 1 to {k + 1}")
        first = rates[-1] if rates else 1.0
        rates += _spread(first, mean - length, k - depth)
        depth, length = k, mean
    return Acceptance(_never_increasing(rates), source=source)


def _spread(first: float, total: float, num: int) -> list[float]:
    """Return ``num`` rates that sum to ``total`` and fall from ``first`` by a constant factor."""
    if num == 1 or total <= 0.0 or first <= 0.0:
        return [total / num] * num
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if sum(first * middle ** (i + 1) for i in range(num)) < total:
            low = middle
        else:
            high = middle
    return [first * high ** (i + 1) for i in range(num)]


def _never_increasing(rates: Sequence[float]) -> tuple[float, ...]:
    """Return the nearest rates within 0 to 1 that never increase, by least squares."""
    pools: list[tuple[float, int]] = []  # mean, number
    for rate in rates:
        mean, num = rate, 1
        while pools and pools[-1][0] < mean:
            other, others = pools.pop()
            mean, num = (mean * num + other * others) / (num + others), num + others
        pools.append((mean, num))
    return tuple(min(1.0, max(0.0, mean)) for mean, num in pools for _ in range(num))


def from_counters(num_drafts: float, accepted_per_position: Sequence[float],
                  source: str = "") -> Acceptance:
    """Return the acceptance that an engine counted, with 95 % intervals (Wilson 1927).

    ``num_drafts`` is vLLM's ``spec_decode_num_drafts``, ``accepted_per_position`` its
    ``spec_decode_num_accepted_tokens_per_pos``. Raises InputError without drafts, and for more
    accepted tokens than drafts.
    """
    if num_drafts <= 0:
        raise InputError("no drafts are counted; expected a server that has served requests")
    rates, low, high = [], [], []
    before = num_drafts
    for position, accepted in enumerate(accepted_per_position):
        if not 0 <= accepted <= before:
            raise InputError(f"{accepted:g} accepted at position {position}; expected at most "
                             f"{before:g}, as many as at the position before")
        before = accepted
        share = accepted / num_drafts
        spread = _SIGMAS**2 / num_drafts
        middle = (share + spread / 2.0) / (1.0 + spread)
        reach = _SIGMAS / (1.0 + spread) * sqrt(
            share * (1.0 - share) / num_drafts + spread / (4.0 * num_drafts))
        rates.append(share)
        low.append(max(0.0, middle - reach))
        high.append(min(1.0, middle + reach))
    return Acceptance(tuple(rates), tuple(low), tuple(high), source)


def from_synthetic(settings: Mapping[str, object], depth: int) -> Acceptance | None:
    """Return the acceptance that a benchmark pinned in vLLM's ``--speculative-config``, None where
    its rejection sampling is a real one. Raises InputError for values without sense."""
    if settings.get("rejection_sample_method") != "synthetic":
        return None
    rates, length = (settings.get(f"synthetic_acceptance_{name}") for name in ("rates", "length"))
    if isinstance(rates, list | tuple):
        return from_rates([float(rate) for rate in rates], "pinned by the engine's settings")
    if isinstance(length, int | float):
        return from_lengths({depth: float(length)}, "pinned by the engine's settings")
    raise InputError("rejection_sample_method is synthetic; expected synthetic_acceptance_rates or "
                     "synthetic_acceptance_length beside it")
