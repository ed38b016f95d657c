"""Requests that wait at the gateway until a replica of their model serves."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from math import ceil, inf

from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.hopeless import HOPELESS, Patience
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Ask
from penstock.serving.waiting_list import WaitingList

_LOOK_S = 0.05


class LiveHolding:
    """Keeps requests for which no engine is ready, each for at most ``patience_s`` or until its own
    deadline, and where there is a ``within_reach``, as long as its objective is within reach.
    ``demand`` counts them.

    ``models`` can be started. ``is_ready`` says whether an engine may take a request now.
    ``on_held`` is called for every request that begins to wait.
    """

    def __init__(self, models: Collection[str], patience_s: float, most: int, demand: DemandMeter,
                 is_ready: Callable[[Ask], bool], on_held: Callable[[], None],
                 within_reach: Patience | None = None) -> None:
        self._models = models
        self._patience_s = patience_s
        self._most = most
        self._demand = demand
        self._is_ready = is_ready
        self._on_held = on_held
        self._within_reach = within_reach
        self._numbers = count()
        self._asks: dict[int, Ask] = {}
        self._waiting: WaitingList[int, None] = WaitingList()

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    async def enter(self, ask: Ask) -> None:
        """Return at once where an engine is ready, or no wait would help; else wait for an engine.
        Raises ServiceError where the request has waited for too long, or too many wait."""
        if self._is_ready(ask) or not self._can_start(ask):
            return
        if self.num_waiting >= self._most:
            raise ServiceError(429, f"{self.num_waiting} requests wait for a replica, as many as "
                                    "this gateway takes", "too_many_requests",
                               headers={"Retry-After": "10"})
        number = next(self._numbers)
        patience_s = min(self._patience_s, ask.deadline_s or self._patience_s)
        error, reach_s = _too_long(patience_s), self._reach_s(ask)
        if reach_s < patience_s:
            patience_s, error = reach_s, _hopeless(reach_s)
        self._asks[number] = ask
        self._count(ask, 1)
        self._on_held()
        try:
            await self._waiting.wait(number, self._waiting.add(
                number, patience_s, partial(self._waiting.refuse, error=error)))
        finally:
            del self._asks[number]
            self._count(ask, -1)

    async def run(self) -> None:
        """Release requests whose engine is ready, the oldest first, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for number, ask in list(self._asks.items()):
                if self._is_ready(ask):
                    self._waiting.serve(number, None)

    def _reach_s(self, ask: Ask) -> float:
        """Return for how long the objective of a request is within reach, of the model that is the
        fastest where it names several."""
        if self._within_reach is None:
            return inf
        return max(self._within_reach(model, ask.service_class, ask.prompt_tokens)
                   for model in ask.models or ("",))

    def _count(self, ask: Ask, change: int) -> None:
        self._demand.held(ask.model or "", ask.service_class.name, ask.prompt_tokens, change)

    def _can_start(self, ask: Ask) -> bool:
        return not ask.needs.confidential and (
            ask.models is None or any(model in self._models for model in ask.models))


def _hopeless(waited_s: float) -> ServiceError:
    return ServiceError(503, f"{HOPELESS} ({waited_s:.3g} s after the request came)", "no_replica")


def _too_long(waited_s: float) -> ServiceError:
    return ServiceError(503, f"no replica was ready within {waited_s:g} s", "no_replica",
                        headers={"Retry-After": str(max(1, ceil(min(waited_s, 60.0))))})
