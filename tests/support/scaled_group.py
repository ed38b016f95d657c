"""A group of live replicas without engines: states and engines as a test sets them."""

from dataclasses import dataclass, field

from penstock.engines.client.state import EngineFacts, EngineState, InFlight
from penstock.serving.deployments.deployments import (
    Deployment,
    Instance,
    RefusedError,
    State,
)


def engine(number: int, url: str = "") -> EngineState:
    return EngineState(EngineFacts(number, url or f"http://127.0.0.1:{number + 1}", "m", None,
                                   1000, 1.0))


def busy(one: EngineState, num: int = 1) -> None:
    for request in range(num):
        one.begin(request, InFlight(10, 10.0))


@dataclass
class Owner:
    """Replicas of one kind of accelerator, of which ``room`` may run at once."""

    room: int = 100
    fails: bool = False
    ended: list[int] = field(default_factory=list)
    registered: list[int] = field(default_factory=list)
    left: set[int] = field(default_factory=set)
    found: dict[int, Deployment] = field(default_factory=dict)
    clock: float = 0.0
    adopted: frozenset[int] = frozenset()

    def deployment(self, number: int) -> Deployment | None:
        return self.found.get(number)

    def register(self, number: int) -> None:
        self.registered.append(number)

    async def begin(self, number: int) -> None:
        running = [one for one in self.found.values() if one.state != State.FAILED]
        if len(running) >= self.room:
            raise RefusedError("no_room", "no accelerator is free")
        self.left.discard(number)
        self.put(number, State.FAILED if self.fails else State.DEPLOYING)

    def put(self, number: int, state: State) -> None:
        """Set the state of a replica's deployment."""
        self.clock += 1.0
        self.found[number] = Deployment(
            f"replica-{number}", "m", "emulate", 0.0, self.clock, state=state, reason="it broke",
            instance=Instance(f"http://127.0.0.1:{number + 1}"))

    def leave(self, number: int) -> None:
        self.left.add(number)

    async def end(self, number: int) -> None:
        self.left.add(number)
        self.ended.append(number)
        self.found.pop(number, None)
