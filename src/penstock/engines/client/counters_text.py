"""Counters and histograms of an engine from its /metrics, under vLLM's and SGLang's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

_SAMPLE = re.compile(
    rb"^(?:vllm|sglang):(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)", re.MULTILINE)
_UPPER = re.compile(rb'(?:^|,)\s*le="([^"]+)"')

_COUNTERS: Mapping[bytes, str] = {
    b"request_success_total": "num_finished", b"num_requests_total": "num_finished",
    b"prompt_tokens_total": "prompt_tokens", b"generation_tokens_total": "output_tokens",
    b"prefix_cache_hits_total": "cached_tokens", b"cached_tokens_total": "cached_tokens"}
_HISTOGRAMS: Mapping[bytes, str] = {
    b"time_to_first_token_seconds": "ttft", b"inter_token_latency_seconds": "tpot",
    b"time_per_output_token_seconds": "tpot_older", b"e2e_request_latency_seconds": "e2e"}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Observed durations: the number up to each upper bound in seconds, cumulative, and the sum."""

    num_up_to: Mapping[float, float]
    sum_s: float

    def counts(self, bounds_s: tuple[float, ...]) -> tuple[int, ...]:
        """Return the number in each bucket of other bounds, the last without an upper bound.

        The durations of a bucket that lies across a bound count in the last bucket that the
        duration may be in.
        """
        found, below = [0] * (len(bounds_s) + 1), 0.0
        for upper_s in sorted(self.num_up_to):
            number = next((i for i, bound_s in enumerate(bounds_s) if upper_s <= bound_s),
                          len(bounds_s))
            found[number] += int(self.num_up_to[upper_s] - below)
            below = self.num_up_to[upper_s]
        return tuple(found)


NOTHING = Distribution({}, 0.0)


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """Counters of an engine since it started, 0 where the engine has no such counter."""

    num_finished: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ttft: Distribution = NOTHING
    tpot: Distribution = NOTHING
    e2e: Distribution = NOTHING


def read_counters(text: bytes) -> EngineCounters | None:
    """Read counters from Prometheus text. Several engines in one text are summed. Returns None
    where the text has none."""
    counters: dict[str, float] = {}
    up_to: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    for match in _SAMPLE.finditer(text):
        name = match["name"]
        kind = _COUNTERS.get(name)
        histogram, _, part = name.rpartition(b"_")
        if kind is None and histogram not in _HISTOGRAMS:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        if not 0.0 <= value < inf:
            continue
        if kind is not None:
            counters[kind] = counters.get(kind, 0.0) + value
        elif part == b"sum":
            sums[_HISTOGRAMS[histogram]] = sums.get(_HISTOGRAMS[histogram], 0.0) + value
        elif part == b"bucket" and (upper := _UPPER.search(match["labels"] or b"")) is not None:
            buckets = up_to.setdefault(_HISTOGRAMS[histogram], {})
            bound_s = float(upper[1])
            buckets[bound_s] = buckets.get(bound_s, 0.0) + value
    if not counters and not up_to:
        return None
    found = {name: Distribution(buckets, sums.get(name, 0.0)) for name, buckets in up_to.items()}
    older = found.pop("tpot_older", NOTHING)
    finished, prompt, output, cached = (int(counters.get(name, 0.0)) for name in (
        "num_finished", "prompt_tokens", "output_tokens", "cached_tokens"))
    return EngineCounters(finished, prompt, output, cached, found.get("ttft", NOTHING),
                          found.get("tpot", older), found.get("e2e", NOTHING))
