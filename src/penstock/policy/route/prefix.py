"""Prefix- and session-aware routing: to the replica with most of the prompt in its cache."""

from collections.abc import Sequence

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.simple import load


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
        loads = {r.replica_id: load(r, request.prompt_tokens) for r in replicas}
        least = min(loads.values())[0]
        limit = max(self._imbalance * least, least + self._slack_tokens)
        near = [r for r in replicas if loads[r.replica_id][0] <= limit]
        best = max(near, key=lambda r: (self._memory.cached_tokens(request, r.replica_id),
                                        -loads[r.replica_id][0], -loads[r.replica_id][1],
                                        -r.replica_id))
        cached = self._memory.cached_tokens(request, best.replica_id)
        self._memory.sent(request, best.replica_id)
        return Route(best.replica_id, {"cached_tokens": cached,
                                       "load": loads[best.replica_id][0]})
