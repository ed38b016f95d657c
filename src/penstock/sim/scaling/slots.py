"""Slots of replicas: each is empty, or has a replica in one of its states."""

from typing import Final

from penstock.policy.scale.values import State
from penstock.sim.kernel import NEVER_PS

EMPTY: Final = 0
WAITING: Final = 1
STARTING: Final = 2
READY: Final = 3
DRAINING: Final = 4

STATES: tuple[State | None, ...] = (None, "waiting", "starting", "ready", "draining")
"""States by their numbers."""


class Slot:
    """Place of one replica of a group, in its state since ``since_ps``."""

    __slots__ = ("due_ps", "group", "replica_id", "since_ps", "state")

    def __init__(self, replica_id: int, group: int) -> None:
        self.replica_id = replica_id
        self.group = group
        self.state = EMPTY
        self.since_ps = 0
        self.due_ps = NEVER_PS  # when a starting replica is ready

    @property
    def holds(self) -> bool:
        """Whether its accelerators are held."""
        return self.state >= STARTING

    @property
    def ordered(self) -> bool:
        """Whether the scaler has ordered its replica and not taken the order back."""
        return WAITING <= self.state <= READY

    def enter(self, state: int, now_ps: int) -> None:
        """Change the state."""
        self.state, self.since_ps = state, now_ps
