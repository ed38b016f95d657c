"""Tickets of callers that wait for a device or use one."""

from dataclasses import dataclass, field

from penstock.policy.multiplex.device import Device, Resident
from penstock.policy.multiplex.values import Batch, Queued


class RefusedError(Exception):
    """A request is turned away. ``code`` is a word for programs, ``after_s`` when to come back."""

    def __init__(self, reason: str, code: str, after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.after_s = after_s


def closing() -> RefusedError:
    """Nobody gets a turn any more."""
    return RefusedError("the gateway is closing", "closing", 1.0)


@dataclass(eq=False, slots=True)
class Running:
    """A batch that was begun: who of it still runs, and who failed."""

    device: Device
    batch: Batch
    left: set[int]
    resident: Resident
    failed: set[int] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Ticket:
    """A turn: the request may be sent to the engine at ``url`` now. Goes back by ``leave`` or
    ``again``, once."""

    request: Queued
    device: int
    model: int
    url: str
    running: Running


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a pool. Loads that take longer than ``load_timeout_s`` have failed; after
    ``attempts`` failures in a row a model is set apart for ``set_apart_s``. A request is tried at
    most ``tries`` times: one that kills its engine must not take its model from all others. Of each
    model at most ``max_queue`` wait, each for at most ``max_wait_s``. Engines are asked what they
    hold every ``look_s`` and have ``answer_s`` to say.
    """

    load_timeout_s: float = 600.0
    attempts: int = 3
    tries: int = 2
    set_apart_s: float = 60.0
    max_queue: int = 1000
    max_wait_s: float = 600.0
    look_s: float = 2.0
    answer_s: float = 5.0
