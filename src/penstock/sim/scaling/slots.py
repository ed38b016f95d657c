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
    """Place of one replica of a group, in its state since ``since_ps``.

    A starting replica is ready at ``due_ps``. A serving one fails at ``fails_ps``, and its owner
    gives notice at ``reclaimed_ps``. A ``doomed`` one fails at its start, or is taken back.
    """

    __slots__ = ("doomed", "due_ps", "fails_ps", "group", "reclaimed_ps", "replica_id", "since_ps",
                 "state")

    def __init__(self, replica_id: int, group: int) -> None:
        self.replica_id = replica_id
        self.group = group
        self.state = EMPTY
        self.since_ps = 0
        self.due_ps = NEVER_PS
        self.doomed = False
        self.fails_ps = NEVER_PS
        self.reclaimed_ps = NEVER_PS

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
        if state < READY:
            self.fails_ps = self.reclaimed_ps = NEVER_PS

    @property
    def next_ps(self) -> int:
        """When the replica changes its state by itself, NEVER_PS where it does not."""
        return min(self.due_ps, self.fails_ps, self.reclaimed_ps)
