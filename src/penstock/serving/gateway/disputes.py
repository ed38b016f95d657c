"""Answers whose engine counted tokens that cannot be true: counts by engine, and alarms."""

from collections.abc import Callable

from prometheus_client import Counter

from penstock.engines.client.state import EngineState

_QUIET_S = 60.0
"""After an alarm about an engine, the next one waits this long."""


class Disputes:
    """Counts disputed answers and notes them for operators. ``clock`` is monotonic, in seconds.

    A note names the engine and the kind of dispute; it has no byte of a request or an answer.
    """

    def __init__(self, counter: Counter, note: Callable[[str], None],
                 clock: Callable[[], float]) -> None:
        self._counter = counter
        self._note = note
        self._clock = clock
        self._quiet: dict[str, tuple[float, int]] = {}  # until when, and disputes since the alarm

    def add(self, engine: EngineState | None, reason: str, *, confidential: bool) -> None:
        """Count a disputed answer of an engine. Only padded counts include confidential
        requests."""
        if engine is None:
            return
        url, now_s = engine.facts.url, self._clock()
        engine.num_disputed += 1
        if not confidential:
            self._counter.labels(url).inc()
        until_s, number = self._quiet.get(url, (now_s, 0))
        if now_s < until_s:
            self._quiet[url] = until_s, number + 1
            return
        self._quiet[url] = now_s + _QUIET_S, 0
        before = "" if confidential or not number else f" ({number} more since the last alarm)"
        self._note(f"engine {url}: usage is disputed: {reason}; the charge follows the gateway's "
                   f"own count{before}")
