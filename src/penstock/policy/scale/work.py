"""Counter of arrivals by the work that they bring."""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import NamedTuple

from penstock.policy.scale.history import History
from penstock.policy.scale.protocol import Load, ReplicaRate
from penstock.policy.scale.values import SeenDemand

_LEAST = 0.1  # work of a request at least, as a share of the mean work
_SAME_WORK = 0.2  # difference of the logarithms of mean works
_PROMPTS_S = 120.0
"""Time whose arrivals tell the work of a prompt token that engines compute now."""


class Prompts(NamedTuple):
    """Means of prompts: their tokens, and the squares of these, None where only sums are seen."""

    tokens: float
    squares: float | None


class Effort(NamedTuple):
    """Work of requests in seconds of one saturated replica: of a request of mean lengths, of each
    prompt token more, of each unit of a prompt's square more, and of an output token with all that
    is left. ``prompts`` are those of the mean request by class."""

    request_s: float
    token_s: float
    square_s: float
    output_token_s: float
    prompts: Mapping[str, Prompts]

    def prompt_s(self, prompt: Prompts, own: Prompts) -> float:
        """Return the work of a prompt. Squares that are not seen are those that ``own`` prompts
        have for as many tokens."""
        squares = prompt.squares
        if squares is None:
            squares = (own.squares or 0.0) * prompt.tokens / max(own.tokens, 1.0)
        return self.token_s * prompt.tokens + self.square_s * squares

    def towards(self, new: "Effort", weight: float) -> "Effort":
        """Return the mean of this effort and a new one, which has this weight."""

        def mean(one: float, other: float) -> float:
            return one + weight * (other - one)

        prompts = {name: Prompts(mean(one.tokens, new.prompts[name].tokens),
                                 mean(one.squares or 0.0, new.prompts[name].squares or 0.0))
                   for name, one in self.prompts.items() if name in new.prompts}
        return Effort(mean(self.request_s, new.request_s), mean(self.token_s, new.token_s),
                      mean(self.square_s, new.square_s),
                      mean(self.output_token_s, new.output_token_s),
                      {**self.prompts, **new.prompts, **prompts})


def effort(rate: ReplicaRate, loads: Mapping[str, Load]) -> Effort:
    """Return the work of requests of these loads, of which a replica serves at most ``rate``."""
    found = Effort(1.0 / rate.saturation_per_s, rate.token_s, rate.square_s, 0.0, {
        name: Prompts(_mean(prompt for prompt, _ in load.lengths),
                      _mean(prompt * prompt for prompt, _ in load.lengths))
        for name, load in loads.items()})
    total = sum(load.rate_per_s for load in loads.values())
    prompt_s = sum(loads[name].rate_per_s * found.prompt_s(one, one)
                   for name, one in found.prompts.items()) / total
    output = sum(load.rate_per_s * _mean(output for _, output in load.lengths)
                 for load in loads.values()) / total
    return found._replace(output_token_s=max(0.0, found.request_s - prompt_s) / max(output, 1.0))


def _mean(values: Iterable[float]) -> float:
    found = [*values]
    return sum(found) / len(found)


class _Seen(NamedTuple):
    """Requests of a class since the start of the run, sums of their prompts, and those deferred."""

    num_arrived: int = 0
    prompt_tokens: int = 0
    prompt_squares: int | None = 0
    num_deferred: int = 0


class _Sum(NamedTuple):
    """Prompt tokens that arrived, their work in seconds, and the requests, as they are and counted
    by their work."""

    tokens: float = 0.0
    work_s: float = 0.0
    num: float = 0.0
    counted: float = 0.0


class Work:
    """Counts arrivals of one model by their work, in requests of the lengths that were measured
    first.

    Prompts are known when requests arrive, so a few long ones count at once, and not when they end.
    Answers are taken to be as long as those that ended lately. Before anything is measured, every
    request counts as one. ``total`` has all arrivals, ``own`` those that were not deferred.
    """

    def __init__(self) -> None:
        self.own = 0.0
        self._effort: Effort | None = None
        self._unit_s = 1.0  # work of a request that counts as one
        self._seen: dict[str, _Seen] = {}
        self._sum = _Sum()
        self._sums = History[_Sum](_PROMPTS_S)

    @property
    def total(self) -> float:
        """Return the count of all arrivals."""
        return self._sum.counted

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

    def of_arrival(self, now_s: float) -> float | None:
        """Return the mean count of the requests that arrived lately, None without any."""
        then = self._sums.at(now_s - _PROMPTS_S)
        if then is None or self._sum.num <= then[1].num:
            return None
        return (self._sum.counted - then[1].counted) / (self._sum.num - then[1].num)

    def is_steady(self, now_s: float) -> bool:
        """Whether the requests that arrived lately bring about as much work as those that ended
        lately. Else engines compute requests that are not known yet."""
        mean = self.of_arrival(now_s)
        return mean is not None and abs(log(mean / self.of_request)) <= _SAME_WORK

    def done(self, prompt_tokens: int, output_tokens: int, now_s: float) -> float | None:
        """Return the count of the requests whose tokens engines have computed, with prompts as
        those that arrived lately; None before anything is known of these."""
        then = self._sums.at(now_s - _PROMPTS_S)
        if self._effort is None or then is None or self._sum.tokens <= then[1].tokens:
            return None
        token_s = (self._sum.work_s - then[1].work_s) / (self._sum.tokens - then[1].tokens)
        return (token_s * prompt_tokens
                + self._effort.output_token_s * output_tokens) / self._unit_s

    def add(self, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Count the arrivals since the last call."""
        for one in demand:
            before = self._seen.get(one.service_class, _Seen())
            self._seen[one.service_class] = _Seen(one.num_arrived, one.prompt_tokens,
                                                  one.prompt_squares, one.num_deferred)
            num = one.num_arrived - before.num_arrived
            if num > 0:
                squares = None if one.prompt_squares is None or before.prompt_squares is None \
                    else (one.prompt_squares - before.prompt_squares) / num
                each = self._each(one.service_class, num, Prompts(
                    (one.prompt_tokens - before.prompt_tokens) / num, squares))
                self._sum = self._sum._replace(num=self._sum.num + num,
                                               counted=self._sum.counted + num * each)
                self.own += (num - one.num_deferred + before.num_deferred) * each
        self._sums.add(now_s, self._sum)

    def _each(self, service_class: str, num: int, prompt: Prompts) -> float:
        """Return the mean count of ``num`` requests of a class with these mean prompts."""
        effort = self._effort
        if effort is None:
            return 1.0
        own = effort.prompts.get(service_class, prompt)
        prompt_s = effort.prompt_s(prompt, own)
        self._sum = self._sum._replace(tokens=self._sum.tokens + num * prompt.tokens,
                                       work_s=self._sum.work_s + num * prompt_s)
        work_s = effort.request_s + prompt_s - effort.prompt_s(own, own)
        return max(work_s, _LEAST * effort.request_s) / self._unit_s
