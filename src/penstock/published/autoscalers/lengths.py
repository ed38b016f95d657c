"""Mean lengths of one model's recent requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.policy.scale.history import History
from penstock.policy.scale.values import Observation, SeenDemand

LENGTHS_S = 300.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens of recent prompts and outputs, 0 without any, and the share of prompt tokens that
    prefix caches had."""

    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    hit_share: float = 0.0


class RecentLengths:
    """Mean lengths of one model's requests of the last five minutes, from the gateway's counters
    and those of the engines' prefix caches."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = tuple(numbers)
        self._counts = History[tuple[int, ...]](LENGTHS_S)

    def add(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Add the counters."""
        totals = [seen.groups[number].totals for number in self._numbers]
        known = [one for one in totals if one is not None]
        self._counts.add(now_s, (
            sum(one.num_arrived for one in demand), sum(one.prompt_tokens for one in demand),
            sum(one.num_finished for one in demand), sum(one.output_tokens for one in demand),
            sum(one.prompt_tokens for one in known), sum(one.cached_tokens for one in known)))

    def mean(self, now_s: float) -> Lengths:
        """Return the means."""
        first, last = self._counts.at(now_s - LENGTHS_S), self._counts.at(now_s)
        if first is None or last is None:
            return Lengths()
        # Counters that have just been read for the first time count since their beginning.
        since = (0,) * len(last[1]) if first[0] > now_s - LENGTHS_S else first[1]
        arrived, prompt, finished, output, engine, cached = (
            max(0, now - then) for now, then in zip(last[1], since, strict=True))
        return Lengths(prompt / arrived if arrived else 0.0,
                       output / finished if finished else 0.0,
                       min(1.0, cached / engine) if engine else 0.0)
