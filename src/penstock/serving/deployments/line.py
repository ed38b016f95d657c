"""Whose turn it is on the accelerators that deployments share. Pure: time is a parameter.

Requests of one deployment run together, as many as its estimate was made for; two deployments never
run on the same accelerator at once, because no estimate says how they would slow each other down.
``policy.turns`` has such queues for a fixed set of deployments whose batches start and end as one;
here deployments come and go, and a request joins those that run.
"""

from dataclasses import dataclass

from penstock.core.errors import InputError, nearest

KINDS = ("penstock", "maveriq")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request for the deployment ``name``, which runs up to ``slots`` at once on ``devices``."""

    number: int
    name: str
    devices: frozenset[int]
    slots: int
    arrival_s: float


class Line:
    """Requests that wait, and those that run.

    ``penstock``: the first that may start does, whoever waits before it for other accelerators. Who
    has waited ``patience_s`` keeps its accelerators for itself, so that small deployments cannot
    keep a large one waiting for ever. ``maveriq``: one queue for all; until its head may start,
    everybody waits, and one request at a time runs on a deployment (UT-SysML/MaverIQ, commit
    067d7a1).
    """

    def __init__(self, kind: str = "penstock", patience_s: float = 2.0) -> None:
        if kind not in KINDS:
            raise InputError(f"queue: {kind!r} is unknown{nearest(kind, KINDS)}")
        self._published = kind == "maveriq"
        self._patience_s = patience_s
        self._waiting: list[Ticket] = []
        self._running: dict[int, Ticket] = {}

    @property
    def num_waiting(self) -> int:
        """Requests that have not started."""
        return len(self._waiting)

    def of(self, name: str) -> tuple[int, int]:
        """How many requests of a deployment wait, and how many run."""
        return (sum(one.name == name for one in self._waiting),
                sum(one.name == name for one in self._running.values()))

    def add(self, ticket: Ticket, *, head: bool = False) -> None:
        """A request arrives: at the tail, or at the head before all that wait."""
        self._waiting.insert(0 if head else len(self._waiting), ticket)

    def next(self, now_s: float) -> Ticket | None:
        """What starts now; None if nothing may. To be asked again until it is None."""
        kept: set[int] = set()
        for place, ticket in enumerate(self._waiting):
            if not ticket.devices & kept and self._may_start(ticket):
                del self._waiting[place]
                self._running[ticket.number] = ticket
                return ticket
            if self._published:
                return None
            if now_s - ticket.arrival_s >= self._patience_s:
                kept |= ticket.devices
        return None

    def ended(self, number: int) -> bool:
        """A request is over, or is wanted no more. False if it is not known."""
        if self._running.pop(number, None) is not None:
            return True
        before = len(self._waiting)
        self._waiting = [one for one in self._waiting if one.number != number]
        return len(self._waiting) < before

    def _may_start(self, ticket: Ticket) -> bool:
        own = 0
        for other in self._running.values():
            if other.name == ticket.name:
                own += 1
            elif other.devices & ticket.devices:
                return False
        return own < (1 if self._published else ticket.slots)
