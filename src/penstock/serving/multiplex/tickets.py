"""Tickets of callers that wait for a device or use one."""

from dataclasses import dataclass, field

from penstock.policy.multiplex.device import Device, Resident
from penstock.policy.multiplex.values import Batch, Queued


class RefusedError(Exception):
    """A request is rejected. ``code`` is a word for programs, ``after_s`` the time to retry
    after."""

    def __init__(self, reason: str, code: str, after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.after_s = after_s


def closing() -> RefusedError:
    """Return the refusal of a gateway that is closing."""
    return RefusedError("the gateway is closing", "closing", 1.0)


@dataclass(eq=False, slots=True)
class Running:
    """A started batch: its requests that still run, and those that failed."""

    device: Device
    batch: Batch
    left: set[int]
    resident: Resident
    failed: set[int] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Ticket:
    """A ticket: the request may be sent to the engine at ``url`` now. The caller gives it back
    once, by ``leave`` or ``retry``."""

    request: Queued
    device: int
    model: int
    url: str
    running: Running


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a pool. A load that takes longer than ``load_timeout_s`` has failed. After
    ``attempts`` consecutive failures a model is set apart for ``set_apart_s``. A request is tried
    at most ``tries`` times, so that a request that kills its engine cannot take a model from all
    others. At most ``max_queue`` requests wait for each model, each for at most ``max_wait_s``.
    Engines are checked every ``look_s`` and have ``answer_s`` to answer.
    """

    load_timeout_s: float = 600.0
    attempts: int = 3
    tries: int = 2
    set_apart_s: float = 60.0
    max_queue: int = 1000
    max_wait_s: float = 600.0
    look_s: float = 2.0
    answer_s: float = 5.0
