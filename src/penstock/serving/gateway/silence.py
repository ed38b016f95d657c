"""How long an engine may be silent, and how its silence ends an attempt."""

import asyncio
from collections.abc import Callable

from aiohttp import ServerTimeoutError

from penstock.core.slo import Slo
from penstock.engines.client.state import EngineState

_LEAST_S = 10.0
_TARGETS = 4.0       # an engine that works on other requests is heard meanwhile
_TOKENS = 100.0


def allowed_s(slo: Slo, longest_s: float) -> tuple[float, float]:
    """Return the seconds that an engine may be silent before the first byte of an answer, and
    between two bytes of a stream.

    Both follow from the targets of a request's class: ``_TARGETS`` times ``ttft_s`` (or ``e2e_s``)
    and ``_TOKENS`` times ``itl_s``, at least ``_LEAST_S`` and at most ``longest_s``.
    """
    first_s = slo.ttft_s if slo.ttft_s is not None else slo.e2e_s
    return (_clamped(first_s, _TARGETS, longest_s), _clamped(slo.itl_s, _TOKENS, longest_s))


def _clamped(target_s: float | None, factor: float, longest_s: float) -> float:
    return longest_s if target_s is None else min(max(_LEAST_S, factor * target_s), longest_s)


class SilenceWatch:
    """Ends one attempt once its engine has been silent for too long.

    An engine counts as heard when a byte of any answer comes from it: an engine with a long queue
    is not silent, and a retry of its requests would only lengthen the queues of others. The
    request's own deadline ends an attempt in any case. ``give_up`` does so; the caller replaces it
    as the attempt goes on. Use as a context manager.
    """

    def __init__(self, engine: EngineState, limit_s: float, deadline_s: float | None,
                 clock: Callable[[], float]) -> None:
        self.limit_s = limit_s
        self.give_up: Callable[[], None] = lambda: None
        self.expired = False
        self._engine = engine
        self._deadline_s = deadline_s
        self._clock = clock
        self._since_s = clock()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "SilenceWatch":
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now_s = self._clock()
        due_s = max(self._since_s, self._engine.heard_s) + self.limit_s
        if self._deadline_s is not None:
            due_s = min(due_s, self._deadline_s)
        if now_s >= due_s:
            self.expired = True
            self.give_up()
            return
        self._timer = asyncio.get_running_loop().call_later(due_s - now_s, self._look)
