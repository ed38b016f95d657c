"""Counter of arrivals by the work that they bring."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.policy.scale.values import SeenDemand

_LEAST = 0.1  # work of a request at least, as a share of the mean work


class Effort(NamedTuple):
    """Work of requests in seconds of one saturated replica: of a request of mean lengths, and of
    each prompt token more. ``prompt_tokens`` are the mean prompts by class."""

    request_s: float
    token_s: float
    prompt_tokens: Mapping[str, float]

    def towards(self, new: "Effort", weight: float) -> "Effort":
        """Return the mean of this effort and a new one, which has this weight."""
        means = {name: tokens + weight * (new.prompt_tokens.get(name, tokens) - tokens)
                 for name, tokens in self.prompt_tokens.items()}
        return Effort(self.request_s + weight * (new.request_s - self.request_s),
                      self.token_s + weight * (new.token_s - self.token_s),
                      {**new.prompt_tokens, **means})


class _Seen(NamedTuple):
    """Requests of a class since the start of the run, their prompts, and those deferred."""

    num_arrived: int = 0
    prompt_tokens: int = 0
    num_deferred: int = 0


class Work:
    """Counts arrivals of one model by their work, in requests of the lengths that were measured
    first.

    Prompts are known when requests arrive, so a few long ones count at once, and not when they end.
    Answers are taken to be as long as those that ended lately. Before anything is measured, every
    request counts as one. ``total`` has all arrivals, ``own`` those that were not deferred.
    """

    def __init__(self) -> None:
        self.total = self.own = 0.0
        self._effort: Effort | None = None
        self._unit_s = 1.0  # work of a request that counts as one
        self._seen: dict[str, _Seen] = {}

    @property
    def of_request(self) -> float:
        """Return the count of a request of the present mean lengths."""
        return 1.0 if self._effort is None else self._effort.request_s / self._unit_s

    def measured(self, new: Effort, weight: float) -> None:
        """Follow the work of recent requests, which counts with this weight."""
        if self._effort is None:
            self._effort, self._unit_s = new, new.request_s
        else:
            self._effort = self._effort.towards(new, weight)

    def add(self, demand: Sequence[SeenDemand]) -> None:
        """Count the arrivals since the last call."""
        for one in demand:
            before = self._seen.get(one.service_class, _Seen())
            self._seen[one.service_class] = _Seen(one.num_arrived, one.prompt_tokens,
                                                  one.num_deferred)
            num = one.num_arrived - before.num_arrived
            if num <= 0:
                continue
            each = self._each(one.service_class, (one.prompt_tokens - before.prompt_tokens) / num)
            self.total += num * each
            self.own += (num - one.num_deferred + before.num_deferred) * each

    def _each(self, service_class: str, prompt_tokens: float) -> float:
        """Return the mean count of requests of a class with this mean prompt."""
        effort = self._effort
        if effort is None:
            return 1.0
        more = prompt_tokens - effort.prompt_tokens.get(service_class, prompt_tokens)
        work_s = effort.request_s + effort.token_s * more
        return max(work_s, _LEAST * effort.request_s) / self._unit_s
