"""Who waits for a turn on a device."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from penstock.policy.multiplex.values import Queued
from penstock.serving.multiplex.counts import Counts
from penstock.serving.multiplex.turns import RefusedError, Ticket


@dataclass(eq=False, slots=True)
class _Place:
    """A request that waits, and who waits for it."""

    request: Queued
    turn: "asyncio.Future[Ticket]"
    timer: asyncio.TimerHandle


class Room:
    """Callers by request, until their turn comes or they are turned away.

    Whoever has waited ``most_s`` is handed to ``expired``, which turns the request away.
    """

    def __init__(self, num_models: int, most_s: float, loop: asyncio.AbstractEventLoop,
                 counts: Counts, expired: Callable[[Queued], None]) -> None:
        self._places: dict[int, _Place] = {}
        self._num = [0] * num_models
        self._most_s = most_s
        self._loop = loop
        self._counts = counts
        self._expired = expired

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._places

    def num(self, model: int) -> int:
        """How many wait for a model."""
        return self._num[model]

    def requests(self, model: int | None = None) -> list[Queued]:
        """Who waits for a model, or for any."""
        return [place.request for place in self._places.values()
                if model is None or place.request.model == model]

    def wait(self, request: Queued) -> "asyncio.Future[Ticket]":
        """The turn of a request, to be awaited."""
        turn: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        timer = self._loop.call_at(self._loop.time() + self._most_s,
                                   lambda: self._expired(request))
        self._places[request.request_id] = _Place(request, turn, timer)
        self._num[request.model] += 1
        return turn

    def call(self, ticket: Ticket) -> bool:
        """It is a request's turn; False where nobody waits for it any more."""
        place = self.forget(ticket.request.request_id)
        if place is None or place.turn.done():
            return False
        self._counts.started[ticket.model] += 1
        place.turn.set_result(ticket)
        return True

    def turn_away(self, request: Queued, refusal: RefusedError) -> None:
        """There will be no turn for a request; nothing is done where nobody waits for it."""
        place = self.forget(request.request_id)
        if place is not None and not place.turn.done():
            self._counts.refuse(request.model, refusal.code, refusal.reason)
            place.turn.set_exception(refusal)

    def forget(self, request_id: int) -> _Place | None:
        """Nobody waits for a request any more."""
        place = self._places.pop(request_id, None)
        if place is not None:
            place.timer.cancel()
            self._num[place.request.model] -= 1
        return place
