"""How long an engine may be silent, and how its silence ends an attempt."""

import asyncio
from collections.abc import Callable

from penstock.core.slo import Slo
from penstock.engines.client.state import EngineState

_LEAST_S = 30.0
_TARGETS = 10.0  # an engine that works on others' answers is heard meanwhile
_TOKENS = 300.0


class Silence:
    """Seconds without a byte after which an engine has failed: before an answer's first byte, and
    within the answer.

    Both follow from the targets of a request's class: 10 times the target of the first byte
    (``ttft_s`` of a stream, ``e2e_s`` of an answer in one piece) and 300 times ``itl_s``, at least
    30 s and at most ``longest_s``; ``longest_s`` without such a target.
    """

    __slots__ = ("first_s", "within_s")

    def __init__(self, slo: Slo, longest_s: float, *, stream: bool) -> None:
        first_s = slo.ttft_s if stream else slo.e2e_s
        self.first_s = _limit_s(first_s, _TARGETS, longest_s)
        self.within_s = _limit_s(slo.itl_s, _TOKENS, longest_s) if stream else longest_s


def _limit_s(target_s: float | None, factor: float, longest_s: float) -> float:
    return longest_s if target_s is None else min(max(_LEAST_S, factor * target_s), longest_s)


class SilenceWatch:
    """Calls ``give_up`` once an engine has been silent for too long in one attempt, and, before the
    answer's first byte, at ``deadline_s``: then the engine is not at fault, and ``is_late``.

    An engine counts as heard when a byte of any answer comes from it: an engine with a long queue
    is not silent, and retries of its requests would lengthen the queues of other engines.
    ``has_begun`` tells whether this attempt's answer has begun. ``clock`` gives seconds and only
    goes forward. A context manager.
    """

    def __init__(self, engine: EngineState, silence: Silence, deadline_s: float,
                 has_begun: Callable[[], bool], clock: Callable[[], float]) -> None:
        self.give_up: Callable[[], None] = lambda: None
        self.is_late = False
        self._engine = engine
        self._silence = silence
        self._deadline_s = deadline_s
        self._has_begun = has_begun
        self._clock = clock
        self._since_s = clock()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "SilenceWatch":
        self._look_at(self._due_s())
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, when_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(
            max(0.0, when_s - self._clock()), self._look)

    def _look(self) -> None:
        due_s = self._due_s()
        if self._clock() < due_s:
            self._look_at(due_s)
            return
        self.is_late = due_s == self._deadline_s
        self.give_up()

    def _due_s(self) -> float:
        """Return when the attempt ends, if no byte comes until then."""
        begun = self._has_begun()
        limit_s = self._silence.within_s if begun else self._silence.first_s
        due_s = max(self._since_s, self._engine.heard_s) + limit_s
        return due_s if begun else min(due_s, self._deadline_s)
