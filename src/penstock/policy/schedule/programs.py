"""The service that each session has had on one replica."""

from collections import OrderedDict
from typing import Final

from penstock.core.request import Request
from penstock.policy.schedule.sequence import Sequence

_OUTPUT_WEIGHT: Final = 2.0
"""Prompt tokens that an output token counts for, as in llm-d's fairness by program."""
_MOST_SESSIONS: Final = 100_000


class Programs:
    """Attained service by session: computed prompt tokens, cached ones left out, plus twice the
    output tokens, of requests that are over (after Autellix's PLAS, which counts execution time).

    Nothing of a request to come is read. Sessions that were idle for longest are forgotten beyond
    100,000. The sessions of different tenants are apart.
    """

    def __init__(self) -> None:
        self._tokens: OrderedDict[tuple[str, str], float] = OrderedDict()

    def attained(self, request: Request) -> float:
        """Return the service of a request's session so far, 0 for one that is not known."""
        if not request.session:
            return 0.0
        return self._tokens.get((request.tenant, request.session), 0.0)

    def served(self, sequence: Sequence) -> None:
        """Add the service of a request that is over."""
        request = sequence.request
        if not request.session:
            return
        key = (request.tenant, request.session)
        tokens = max(0, sequence.computed - sequence.cached) + _OUTPUT_WEIGHT * sequence.generated
        self._tokens[key] = self._tokens.get(key, 0.0) + tokens
        self._tokens.move_to_end(key)
        if len(self._tokens) > _MOST_SESSIONS:
            self._tokens.popitem(last=False)
