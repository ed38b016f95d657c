"""Prefix- and session-aware routing: to the replica with most of the prompt in its cache."""

from collections.abc import Sequence

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.simple import loads


class PrefixAware(PlainRouter):
    """The replica with most of the prompt in its cache, unless it is far more loaded than another.

    A replica with more than ``imbalance`` times the load of the least loaded one (and at least
    ``slack_tokens`` more) is skipped, so that a popular prefix does not overload one replica. Among
    equals the least loaded is chosen.
    """

    def __init__(self, memory: PrefixMemory, imbalance: float = 1.5,
                 slack_tokens: float = 2048.0) -> None:
        self._memory = memory
        self._imbalance = imbalance
        self._slack_tokens = slack_tokens

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        all_loads = loads(replicas, request.prompt_tokens)
        least = min(all_loads)
        limit = max(self._imbalance * least[0], least[0] + self._slack_tokens)
        best_cached, best = 0, least
        # Of a hundred replicas few have any of the prompt, and only those are asked how much.
        if holders := self._memory.holders(request):
            best_cached, best = min([(0, least)] + [
                (-self._memory.cached_tokens(request, one[2], now_s), one)
                for one in all_loads if one[2] in holders and one[0] <= limit])
        self._memory.sent(request, best[2], now_s)
        return Route(best[2], {"cached_tokens": -best_cached, "load": best[0]})
