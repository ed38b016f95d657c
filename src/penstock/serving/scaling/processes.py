"""A group whose replicas Penstock starts and ends as processes on this machine."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple

from penstock.engines.client.state import EngineState
from penstock.policy.scale.values import State
from penstock.serving.deployments import deployments
from penstock.serving.deployments.deployments import Backoff, Deployment, RefusedError
from penstock.serving.deployments.replicas import StartedReplicas
from penstock.serving.scaling.budget import Room, all_may
from penstock.serving.scaling.groups import Ages, LiveReplica

_BACKOFF = Backoff(most=1_000_000)  # a replica that is wanted is tried for ever
_LOOK_S = 1.0


class _Failure(NamedTuple):
    """The latest failure of a replica's start, at ``at_s`` of the day, of ``num`` in a row."""

    num: int
    at_s: float
    retry_s: float


class ProcessGroup:
    """Orders replicas of the fleet file by their ``numbers``.

    An ordered replica waits until accelerators are free and ``room`` has room, and a start that
    fails is repeated with a growing delay. A replica that is given up gets no more requests, ends
    its last ones, and is then stopped. ``inherited`` is the number of replicas of an earlier
    gateway.
    """

    def __init__(self, numbers: Sequence[int], owner: StartedReplicas,
                 engines: Iterable[EngineState], clock: Callable[[], float],
                 note: Callable[[str], None], room: Room = all_may) -> None:
        self._numbers = numbers
        self._owner = owner
        self._engines = engines
        self._clock = clock
        self._note = note
        self._room = room
        self._ages = Ages(clock)
        self._ordered = [number for number in numbers if owner.deployment(number) is not None]
        self.inherited = len(owner.adopted.intersection(numbers))
        self._draining: list[int] = []
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._failures: dict[int, _Failure] = {}
        self._look_s = -inf

    @property
    def num_places(self) -> int:
        """Replicas that may exist at once."""
        return len(self._numbers)

    @property
    def target(self) -> int:
        """Number of replicas ordered last."""
        return len(self._ordered)

    def replicas(self) -> list[LiveReplica]:
        """Return the replicas that wait, start, serve or drain."""
        by_url = {one.facts.url: one for one in self._engines}
        found = []
        for number in self._ordered:
            engine = self._engine(number, by_url)
            state = self._state(number, engine)
            found.append(LiveReplica(number, state, self._ages.since_s(number, state), engine))
        return found + [
            LiveReplica(number, "draining", self._ages.since_s(number, "draining"),
                        self._engine(number, by_url))
            for number in (*self._draining, *self._ending)]

    def adopt(self, numbers: range) -> None:
        """Do nothing: the places of started replicas stay."""

    def order(self, target: int) -> None:
        """Order a number of replicas."""
        taken = {*self._ordered, *self._draining, *self._ending}
        free = [number for number in self._numbers if number not in taken]
        num_more = target - len(self._ordered)
        if num_more > 0:
            for number in free[:num_more]:
                self._owner.register(number)
                self._ordered.append(number)
        elif num_more < 0:
            for one in sorted(self._present(), key=_worth)[:-num_more]:
                self._give_up(one)

    async def tend(self) -> None:
        """Start replicas that are ordered, and stop those that have drained."""
        if self._clock() >= self._look_s + _LOOK_S:  # to read accelerators takes a while
            self._look_s = self._clock()
            for number in list(self._ordered):
                await self._tend_start(number)
        by_url = {one.facts.url: one for one in self._engines}
        for number in list(self._draining):
            engine = self._engine(number, by_url)
            if engine is None or not engine.in_flight:
                self._draining.remove(number)
                self._end(number)
        for number, task in list(self._ending.items()):
            if task.done():
                del self._ending[number]
                self._ages.forget(number)
                task.result()

    def _present(self) -> list[LiveReplica]:
        return [one for one in self.replicas() if one.state != "draining"]

    def _state(self, number: int, engine: EngineState | None) -> State:
        found = self._owner.deployment(number)
        if found is None or found.state in (deployments.State.REGISTERED,
                                            deployments.State.FAILED):
            return "waiting"
        return "ready" if engine is not None and engine.healthy else "starting"

    def _engine(self, number: int, by_url: dict[str, EngineState]) -> EngineState | None:
        found = self._owner.deployment(number)
        return None if found is None or found.instance is None else by_url.get(found.instance.url)

    def _give_up(self, one: LiveReplica) -> None:
        self._ordered.remove(one.number)
        self._failures.pop(one.number, None)
        self._owner.leave(one.number)
        if one.engine is not None and one.engine.in_flight:
            one.engine.draining = True
            self._draining.append(one.number)
        else:
            self._end(one.number)

    def _end(self, number: int) -> None:
        self._ending[number] = asyncio.create_task(self._owner.end(number))

    async def _tend_start(self, number: int) -> None:
        found = self._owner.deployment(number)
        if found is not None and found.state == deployments.State.FAILED:
            if self._waits_after_failure(number, found):
                return
        elif found is not None and found.state != deployments.State.REGISTERED:
            return
        if not self._room(1):
            return
        try:
            await self._owner.begin(number)
        except RefusedError as error:
            if error.code not in ("no_room", "busy"):
                self._note(f"replica {number} was not started: {error}")

    def _waits_after_failure(self, number: int, found: Deployment) -> bool:
        """Whether it is too early to repeat a start that failed."""
        known = self._failures.get(number)
        if known is not None and known.at_s == found.since_s:
            return self._clock() < known.retry_s
        num = 1 if known is None else known.num + 1
        delay_s = _BACKOFF.delay_s(num) or 0.0
        self._failures[number] = _Failure(num, found.since_s, self._clock() + delay_s)
        self._note(f"replica {number} did not start, the next try is in {delay_s:g} s: "
                   f"{found.reason}")
        return True


def _worth(one: LiveReplica) -> tuple[int, float, int]:
    """Order in which replicas are given up: those that wait, the last that began to start, the
    ready ones with the fewest requests."""
    if one.state != "ready":
        return int(one.state == "starting"), -one.since_s, -one.number
    return 2, 0.0 if one.engine is None else len(one.engine.in_flight), -one.number
