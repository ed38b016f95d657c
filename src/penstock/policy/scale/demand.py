"""Arrivals and ends of requests at a gateway, by model and service class."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from penstock.policy.scale.values import SeenDemand

NUM_RECENT: Final = 2048
_REFRESH: Final = 256


class _Demand:
    """Counters of one model and class, and the latest lengths. ``shown`` is the view of the
    lengths, made anew after some answers."""

    __slots__ = ("held_tokens", "num_arrived", "num_deferred", "num_finished", "num_held",
                 "num_lost", "num_met", "output_tokens", "prompt_squares", "prompt_tokens",
                 "recent", "shown")

    def __init__(self) -> None:
        self.num_arrived = 0
        self.num_deferred = 0
        self.prompt_tokens = 0
        self.prompt_squares = 0
        self.num_finished = 0
        self.output_tokens = 0
        self.num_held = 0
        self.held_tokens = 0
        self.num_met = 0
        self.num_lost = 0
        self.recent: deque[tuple[int, int]] = deque(maxlen=NUM_RECENT)
        self.shown: tuple[tuple[int, int], ...] = ()


class DemandMeter:
    """Counts the gateway's arrivals and the ends of requests, by model and class. An empty model
    is one that the router chooses."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], _Demand] = {}

    def arrived(self, model: str, service_class: str, prompt_tokens: int, *,
                deferred: bool = False) -> None:
        """Count an arrival. A ``deferred`` one was held back for spare capacity."""
        one = self._of(model, service_class)
        one.num_arrived += 1
        one.num_deferred += deferred
        one.prompt_tokens += prompt_tokens
        one.prompt_squares += prompt_tokens * prompt_tokens

    def finished(self, model: str, service_class: str, prompt_tokens: int, output_tokens: int, *,
                 met: bool) -> None:
        """Count a finished answer, and whether the answer was in time."""
        one = self._of(model, service_class)
        one.num_finished += 1
        one.output_tokens += output_tokens
        one.num_met += met
        one.recent.append((prompt_tokens, output_tokens))
        if one.num_finished % _REFRESH == 0 or one.num_finished < _REFRESH:
            one.shown = ()

    def lost(self, model: str, service_class: str) -> None:
        """Count a request that was refused or given up."""
        self._of(model, service_class).num_lost += 1

    def held(self, model: str, service_class: str, prompt_tokens: int, change: int) -> None:
        """Count a request that begins (1) or ends (-1) to wait for a replica."""
        one = self._of(model, service_class)
        one.num_held += change
        one.held_tokens += change * prompt_tokens

    def _of(self, model: str, service_class: str) -> _Demand:
        key = (model, service_class)
        one = self._by_key.get(key)
        if one is None:
            one = self._by_key[key] = _Demand()
        return one

    def seen(self) -> tuple[SeenDemand, ...]:
        """Return the counters by model and class, in order of name."""
        found: Mapping[tuple[str, str], _Demand] = self._by_key
        for one in found.values():
            if not one.shown and one.recent:
                one.shown = tuple(one.recent)
        return tuple(SeenDemand(model, name, one.num_arrived, one.prompt_tokens, one.num_finished,
                                one.output_tokens, one.num_held, one.num_met, one.num_lost,
                                one.shown, one.held_tokens, one.num_deferred, one.prompt_squares)
                     for (model, name), one in sorted(found.items()))
