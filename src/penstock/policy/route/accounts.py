"""Predictions for each routed request, kept until the request ends and the router learns from
it."""

from collections import OrderedDict
from collections.abc import Mapping

from penstock.core.departure import Departure
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.joint.prospects import Paces
from penstock.predict.latency import Asked, LatencyPredictor

MOST_OPEN = 1 << 17
"""Requests that are remembered. The oldest beyond this are forgotten, and nothing is learned from
them."""


class LatencyAccounts:
    """Teaches the predictors (by kind of replica) from the outcomes of requests."""

    def __init__(self, facts: Mapping[int, ReplicaFacts],
                 predictors: Mapping[str, LatencyPredictor], paces: Paces) -> None:
        self._facts = facts
        self._predictors = predictors
        self._paces = paces
        self._open: OrderedDict[int, Asked] = OrderedDict()

    def sent(self, request_id: int, replica: ReplicaSnapshot, prompt_tokens: int,
             output_tokens: float) -> None:
        """A request went to a replica in this observed state, with its prompt tokens to compute and
        its expected output tokens."""
        predictor = self._predictors[self._facts[replica.replica_id].kind]
        self._open[request_id] = predictor.asked(replica, self._paces.of(replica), prompt_tokens,
                                                 output_tokens)
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def ended(self, departure: Departure) -> None:
        """A request has ended. One that was cut off, or answered in one piece, teaches nothing."""
        asked = self._open.pop(departure.request_id, None)
        if asked is None or not departure.finished or departure.ttft_s is None:
            return
        kind = self._facts[departure.replica_id].kind
        self._predictors[kind].ended(asked, departure.ttft_s, departure.e2e_s,
                                     departure.output_tokens)
        self._paces.learned()
