"""How long an engine may be silent, and how its silence ends an attempt."""

import asyncio
from collections.abc import Callable
from math import inf

from penstock.core.slo import Slo
from penstock.engines.client.state import EngineState
from penstock.serving.gateway.relay import RelayedStream

_LEAST_S = 30.0
_LOOK_S = 1.0
_TARGETS = 10.0  # an engine that works on others' answers is heard meanwhile
_TOKENS = 300.0


class Silence:
    """Seconds without a byte after which an engine has failed: before an answer's first byte, and
    within the answer.

    Both follow from the targets of a request's class: 10 times the target of the first byte
    (``ttft_s`` of a stream, ``e2e_s`` of an answer in one piece) and 300 times ``itl_s``, at least
    30 s and at most ``longest_s``; ``longest_s`` without such a target.
    """

    __slots__ = ("first_s", "longest_s", "within_s")

    def __init__(self, slo: Slo, longest_s: float, *, stream: bool) -> None:
        first_s = slo.ttft_s if stream else slo.e2e_s
        self.longest_s = longest_s
        self.first_s = _limit_s(first_s, _TARGETS, longest_s)
        self.within_s = _limit_s(slo.itl_s, _TOKENS, longest_s) if stream else longest_s


def _limit_s(target_s: float | None, factor: float, longest_s: float) -> float:
    return longest_s if target_s is None else min(max(_LEAST_S, factor * target_s), longest_s)


class SilenceWatch:
    """Ends one attempt once its engine has been silent for too long or, before the answer's first
    token, at ``deadline_s``: then the engine is not at fault, and ``is_late``.

    An engine counts as heard when a byte of any answer comes from it: an engine with a long queue
    is not silent, and retries of its requests would lengthen the queues of other engines. An answer
    of which no byte came for ``silence.longest_s`` has failed in any case. While the watch does not
    ``listen``, because a slow client is written to, silence is not the engine's: a client that
    takes nothing for ``silence.longest_s`` is dropped by ``drop_client``.

    The attempt is ended by ``give_up``. That cancels the task of the attempt, unless a user of the
    watch sets another function. ``passed`` tells whether the answer has begun. A context manager.
    """

    __slots__ = ("_all", "_deadline_s", "_engine", "_gave_up", "_heard_s", "_own_s", "_passed",
                 "_silence", "_task", "_timer", "drop_client", "give_up", "is_late", "listen")

    def __init__(self, engine: EngineState, silence: Silence, deadline_s: float,
                 passed: RelayedStream, watches: "SilenceWatches") -> None:
        self.listen = True
        self.is_late = False
        self._gave_up = False
        self._engine = engine
        self._silence = silence
        self._deadline_s = deadline_s
        self._passed = passed
        self._all = watches
        self._own_s = self._heard_s = watches.clock()
        self._task = asyncio.current_task()
        self.give_up: Callable[[], object] = self._cancel
        self.drop_client: Callable[[], object] = self._cancel
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "SilenceWatch":
        self._all.active.add(self)
        if self._deadline_s < inf:  # a client's deadline is kept to the moment
            self._wait_for_deadline(self._own_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def heard(self, now_s: float) -> None:
        """Note that bytes of this answer came."""
        self._own_s = self._heard_s = self._engine.heard_s = now_s

    def has_cancelled(self) -> bool:
        """Whether this watch, and nothing else, cancelled the task of the attempt. Takes the
        cancellation back."""
        return self._gave_up and self._task is not None and self._task.uncancel() == 0

    def look(self, now_s: float) -> None:
        """End the attempt if that is due."""
        if not self.listen:
            self._own_s = now_s
            # The bytes that are written came last: nothing is read meanwhile.
            if now_s >= self._heard_s + self._silence.longest_s:
                self._stop()
                self.drop_client()
                return
        due_s = self._due_s()
        if now_s >= due_s:
            self._stop()  # a second cancellation would look like a client's
            self.is_late = due_s == self._deadline_s
            self.give_up()

    def abandon(self) -> None:
        """End the attempt now, unless it has ended."""
        if self in self._all.active:
            self._stop()
            self.give_up()

    def _due_s(self) -> float:
        """Return when the attempt ends, if no byte comes until then."""
        silence, own_s, begun = self._silence, self._own_s, self._passed.num_tokens > 0
        limit_s = silence.within_s if begun else silence.first_s
        due_s = min(max(own_s, self._engine.heard_s) + limit_s, own_s + silence.longest_s)
        return due_s if begun else min(due_s, self._deadline_s)

    def _stop(self) -> None:
        self._all.active.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _wait_for_deadline(self, now_s: float) -> None:
        # Even a deadline that has passed is left to a timer: the attempt's task would be cancelled
        # by itself, and the cancellation would hit whatever that task awaits next.
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._deadline_s - now_s),
                                                            self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        now_s = self._all.clock()
        if now_s >= self._deadline_s:
            self.look(now_s)
        else:
            self._wait_for_deadline(now_s)

    def _cancel(self) -> None:
        self._gave_up = True
        if self._task is not None:
            self._task.cancel()


class SilenceWatches:
    """The watches of all attempts, ``active`` while these last. ``clock`` gives seconds and only
    goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.active: set[SilenceWatch] = set()

    async def run(self) -> None:
        """Look at the active watches on and on."""
        while True:  # no timer for each attempt: nearly all attempts end long before
            await asyncio.sleep(_LOOK_S)
            now_s = self.clock()
            for watch in list(self.active):
                watch.look(now_s)
