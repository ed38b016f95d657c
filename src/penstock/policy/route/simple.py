"""Simple routers: round robin, random, least of a count."""

from collections.abc import Callable, Sequence
from typing import Final

from penstock.core.decision import NOWHERE, Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.protocol import PlainRouter

_ENDLESS: Final = float("inf")


class _Turns:
    """The turn of a set of candidates."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self._ids = ids
        self._turn = 0

    def next(self) -> int:
        """Return the number of the replica whose turn it is."""
        turn = self._turn
        self._turn = turn + 1
        return self._ids[turn % len(self._ids)]


class RoundRobin(PlainRouter):
    """Round robin over replicas, per set of candidates."""

    def __init__(self) -> None:
        self._turns: dict[tuple[int, ...], _Turns] = {}
        self._seen: Sequence[ReplicaSnapshot] = ()
        self._turns_of_seen = _Turns(())

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        if replicas is not self._seen:
            ids = tuple([replica.replica_id for replica in replicas])
            self._seen = replicas
            self._turns_of_seen = self._turns.setdefault(ids, _Turns(ids))
        return Route(self._turns_of_seen.next())


Load = tuple[float, float, int]
"""Load of a replica relative to its speed with one more prompt: prompt tokens to compute, then
requests, then its number."""


def loads(replicas: Sequence[ReplicaSnapshot], prompt_tokens: int = 0) -> list[Load]:
    """Return the load of each replica, in order."""
    return [(_tokens(one, prompt_tokens), _requests(one), one.replica_id) for one in replicas]


def _tokens(replica: ReplicaSnapshot, prompt_tokens: int) -> float:
    computed = replica.queued_prompt_tokens + prompt_tokens + replica.kv_used_tokens // 16
    return computed / replica.speed


def _requests(replica: ReplicaSnapshot) -> float:
    return (replica.num_waiting + replica.num_running + 1) / replica.speed


class LeastLoaded(PlainRouter):
    """The replica with the least known work."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        # The least of ``loads``, without a tuple for each replica: large fleets route often.
        prompt_tokens = request.prompt_tokens
        chosen, least, fewest = NOWHERE, _ENDLESS, _ENDLESS
        for one in replicas:
            load = _tokens(one, prompt_tokens)
            if load > least:
                continue
            requests = _requests(one)
            if load < least or requests < fewest or (
                    requests == fewest and one.replica_id < chosen):
                chosen, least, fewest = one.replica_id, load, requests
        return Route(chosen, {"load": least})


class TwoChoices(PlainRouter):
    """The less loaded of two replicas drawn at random (Mitzenmacher 2001).

    ``draw(n)`` returns a whole number below n; the caller owns the random source.
    """

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        first = self._draw(len(replicas))
        second = self._draw(len(replicas) - 1) if len(replicas) > 1 else first
        if second >= first and len(replicas) > 1:
            second += 1
        least = min(loads([replicas[first], replicas[second]], request.prompt_tokens))
        return Route(least[2], {"load": least[0]})


class Random(PlainRouter):
    """A replica uniformly at random. ``draw(n)`` returns a whole number below n."""

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        return Route(replicas[self._draw(len(replicas))].replica_id)


class ShortestQueue(PlainRouter):
    """The replica with the fewest requests, running and waiting."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        least = min((r.num_running + r.num_waiting, r.replica_id) for r in replicas)
        return Route(least[1], {"num_requests": least[0]})


class FewestWaiting(PlainRouter):
    """The replica with the fewest waiting requests; of equals the one with fewer running."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        least = min((r.num_waiting, r.num_running, r.replica_id) for r in replicas)
        return Route(least[2], {"num_waiting": least[0]})


class FreeKv(PlainRouter):
    """The replica with the most free KV cache per active request; waiting prompts count as used.

    Llumnix's load measure without its migration ("Llumnix-minus" in Block, arXiv 2508.03611).
    """

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        most = max((_free_kv(r), -r.replica_id) for r in replicas)
        return Route(-most[1], {"free_kv_tokens": most[0]})


def _free_kv(replica: ReplicaSnapshot) -> float:
    free = replica.kv_total_tokens - replica.kv_used_tokens - replica.queued_prompt_tokens
    return free / max(1, replica.num_running + replica.num_waiting)
