"""Routing by counting: round robin, least loaded, two choices."""

from collections.abc import Callable, Sequence

from penstock.core.decision import Route
from penstock.core.errors import InputError, nearest
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.protocol import Router


class RoundRobin:
    """Takes replicas in turn, per set of candidates."""

    def __init__(self) -> None:
        self._turn: dict[tuple[int, ...], int] = {}

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        ids = tuple(replica.replica_id for replica in replicas)
        turn = self._turn.get(ids, 0)
        self._turn[ids] = turn + 1
        return Route(ids[turn % len(ids)])


def load(replica: ReplicaSnapshot, prompt_tokens: int = 0) -> tuple[float, float, int]:
    """How loaded a replica would be for its speed with one more prompt: prompt tokens to compute,
    then requests, then its number."""
    work_tokens = replica.queued_prompt_tokens + prompt_tokens + replica.kv_used_tokens // 16
    num_requests = replica.num_waiting + replica.num_running + 1
    return (work_tokens / replica.speed, num_requests / replica.speed, replica.replica_id)


class LeastLoaded:
    """Takes the replica with the least work in sight."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        loads = [load(replica, request.prompt_tokens) for replica in replicas]
        least = min(loads)
        return Route(least[2], {"load": least[0]})


class TwoChoices:
    """The less loaded of two replicas drawn at random (Mitzenmacher 2001).

    ``draw(n)`` gives a whole number below n; the random source belongs to the caller.
    """

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        first = self._draw(len(replicas))
        second = self._draw(len(replicas) - 1) if len(replicas) > 1 else first
        if second >= first and len(replicas) > 1:
            second += 1
        least = min(load(replicas[i], request.prompt_tokens) for i in (first, second))
        return Route(least[2], {"load": least[0]})


ROUTERS = ("round_robin", "least_loaded", "two_choices")


def make_router(name: str, draw: Callable[[int], int]) -> Router:
    """The named router. Raises InputError for an unknown name."""
    if name == "round_robin":
        return RoundRobin()
    if name == "least_loaded":
        return LeastLoaded()
    if name == "two_choices":
        return TwoChoices(draw)
    raise InputError(f"unknown routing policy {name!r}{nearest(name, ROUTERS)}")
