"""The budget of live replicas: how many more may start."""

from collections.abc import Callable, Sequence

from penstock.policy.scale.budget import Spending
from penstock.serving.scaling.groups import LiveGroup

Room = Callable[[int], int]
"""Function that returns how many of so many further replicas may start now."""


def all_may(more: int) -> int:
    """Return them all: nothing limits the replicas."""
    return more


class LiveBudget:
    """A budget that all ``groups`` share, which are set once they are built. Every replica that
    does not wait takes of it."""

    def __init__(self, spending: Spending) -> None:
        self.groups: Sequence[LiveGroup] = ()
        self._spending = spending

    def room(self, number: int, more: int) -> int:
        """Return how many of so many further replicas of a group may start now."""
        held = [sum(1 for one in group.replicas() if one.state != "waiting")
                for group in self.groups]
        for found in range(more):
            if not self._spending.has_room(held, number):
                return found
            held[number] += 1
        return more
