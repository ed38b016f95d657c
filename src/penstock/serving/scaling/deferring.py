"""Requests of deferrable classes that a gateway holds back."""

import asyncio
from collections.abc import Callable

from penstock.policy.scale.deferral import TICK_S, Deferral
from penstock.policy.scale.values import Observation
from penstock.serving.gateway.ask import Ask
from penstock.serving.waiting_list import WaitingList

OBSERVE_S = 10.0
"""Time between two computations of the spare capacity."""


class LiveDeferring:
    """Holds requests back as ``deferral`` decides, at most ``most`` of them. Confidential requests
    and those with a deadline of their own are sent at once.

    ``clock`` counts seconds from the start of ``deferral``, and ``observe`` returns what is seen of
    the fleet by this clock, None where the number of replicas is unknown.
    """

    def __init__(self, deferral: Deferral[int], most: int,
                 observe: Callable[[], Observation | None], clock: Callable[[], float]) -> None:
        self._deferral = deferral
        self._most = most
        self._observe = observe
        self._clock = clock
        self._number = 0
        self._waiting: WaitingList[int, bool] = WaitingList()

    @property
    def num_waiting(self) -> int:
        """Number of requests that are held back."""
        return len(self._waiting)

    async def enter(self, ask: Ask) -> bool:
        """Wait until the request may be sent. Returns whether the request uses spare capacity, and
        needs no replica of its own."""
        model, name = ask.model or "", ask.service_class.name
        if (ask.needs.confidential or ask.deadline_s is not None or self.num_waiting >= self._most
                or not self._deferral.defers(model, name)):
            return False
        self._number += 1
        number = self._number
        held = self._deferral.hold(number, model, name, self._clock())
        try:
            return await self._waiting.wait(number, self._waiting.add(number))
        except asyncio.CancelledError:
            self._deferral.remove(held)
            raise

    async def look(self) -> None:
        """Compute the spare capacity again and again, until cancelled."""
        while True:
            seen = self._observe()
            if seen is not None:
                # The capacity of a replica takes a while, and answers must go on meanwhile.
                spare = await asyncio.to_thread(self._deferral.spare_per_s, seen, self._clock())
                self._deferral.allow(spare)
            await asyncio.sleep(OBSERVE_S)

    async def run(self) -> None:
        """Send requests when their time has come, until cancelled."""
        while True:
            for one in self._deferral.send(self._clock()):
                self._waiting.serve(one.item, one.deferred)
            await asyncio.sleep(max(0.0, min(
                TICK_S, self._deferral.next_s(self._clock()) - self._clock())))
