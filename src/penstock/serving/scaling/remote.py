"""A group of engines that others start and end: by a webhook, or on Penstock's advice alone."""

from collections.abc import Callable, Iterable
from typing import Any

import aiohttp

from penstock.engines.client.state import EngineState
from penstock.policy.scale.values import State
from penstock.serving.scaling.budget import Room, all_may
from penstock.serving.scaling.groups import Ages, LiveGroup, LiveReplica

_TIMEOUT_S = 10.0
_RETRY_S = 5.0


class AdvisedGroup:
    """Engines at the endpoints of the fleet file, with the ``numbers`` that they have now. Orders
    change nothing: the target is the number of engines, whoever started them."""

    def __init__(self, engines: Iterable[EngineState], numbers: range,
                 clock: Callable[[], float]) -> None:
        self._numbers = numbers
        self._all = engines
        self._ages = Ages(clock)

    @property
    def num_places(self) -> None:
        """None: the fleet file states the endpoints."""
        return None

    @property
    def target(self) -> int:
        """Number of engines that do not leave."""
        return sum(1 for one in self._engines() if not one.draining)

    @property
    def inherited(self) -> int:
        """Number of engines: nobody tells who ordered them."""
        return self.target

    def _engines(self) -> list[EngineState]:
        return [one for one in self._all if one.facts.replica_id in self._numbers]

    def replicas(self) -> list[LiveReplica]:
        """Return the engines. An engine that does not answer counts as starting."""
        return [self._replica(one) for one in self._engines()]

    def _replica(self, one: EngineState) -> LiveReplica:
        state: State = "draining" if one.draining else "ready" if one.healthy else "starting"
        number = one.facts.replica_id
        return LiveReplica(number, state, self._ages.since_s(number, state), one)

    def adopt(self, numbers: range) -> None:
        """Take over the numbers of the endpoints of a changed fleet file."""
        self._numbers = numbers

    def order(self, target: int) -> None:
        """Do nothing."""

    async def tend(self) -> None:
        """Do nothing."""


class WebhookGroup:
    """Engines that the receiver of a webhook starts and ends. ``present`` has those that exist.

    Every new target is posted as JSON, once more after a failure: ``{"group", "model",
    "accelerator", "replicas"}``. Replicas that were ordered and are not present yet count as
    starting. Those for which ``room`` has no room wait, and the receiver is not told of them yet.
    """

    def __init__(self, present: LiveGroup, clock: Callable[[], float],
                 session: aiohttp.ClientSession, url: str, body: dict[str, Any],
                 headers: dict[str, str], note: Callable[[str], None],
                 room: Room = all_may) -> None:
        self._present = present
        self._clock = clock
        self._session = session
        self._url = url
        self._body = body
        self._headers = headers
        self._note = note
        self._room = room
        self._granted = 0
        self._target: int | None = None
        self._told: int | None = None
        self._retry_s = 0.0
        self._ordered_s = 0.0

    @property
    def num_places(self) -> int | None:
        """Places of the present engines."""
        return self._present.num_places

    @property
    def target(self) -> int:
        """Number of replicas ordered last; before the first order, that of the engines."""
        return self._present.target if self._target is None else self._target

    @property
    def inherited(self) -> int:
        """Number of engines: nobody tells who ordered them."""
        return self._present.inherited

    def adopt(self, numbers: range) -> None:
        """Take over the numbers of the endpoints of a changed fleet file."""
        self._present.adopt(numbers)

    def replicas(self) -> list[LiveReplica]:
        """Return the engines, and the ordered replicas that have not joined yet."""
        found = [*self._present.replicas()]
        num_joined = sum(1 for one in found if one.state != "draining")
        num_waiting = 0 if self._target is None else min(self.target - self._granted,
                                                         self.target - num_joined)
        states: list[State] = ["starting"] * (self.target - num_joined - num_waiting)
        states += ["waiting"] * num_waiting
        return [*found, *(LiveReplica(-1 - i, state, self._ordered_s)
                          for i, state in enumerate(states))]

    def order(self, target: int) -> None:
        """Order a number of replicas."""
        if target != self.target:
            if self._target is None:
                self._granted = self.target
            self._target, self._ordered_s, self._retry_s = target, self._clock(), 0.0
            self._grant(target)

    def _grant(self, target: int) -> None:
        """Let ordered replicas start, as far as there is room."""
        self._granted = min(self._granted, target)
        self._granted += self._room(target - self._granted)

    async def tend(self) -> None:
        """Tell the receiver the number of replicas that may run, until it has been accepted."""
        if self._target is None:
            return
        self._grant(self._target)
        target = self._granted
        if target == self._told or self._clock() < self._retry_s:
            return
        try:
            async with self._session.post(
                    self._url, json={**self._body, "replicas": target}, headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                    allow_redirects=False) as answer:
                problem = None if answer.status < 300 else f"answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = f"failed ({type(error).__name__})"
        if problem is None:
            self._told = target
            return
        self._retry_s = self._clock() + _RETRY_S
        self._note(f"scaling.webhook {problem}; {target} replicas of {self._body['model']} are "
                   f"ordered again in {_RETRY_S:g} s")
