"""Series of engines in Prometheus: the query for them, and each replica's figures from the answer.

Names are those of vLLM and SGLang. A range of raw samples is asked for, so that every sample has
the time of its scrape; PromQL's functions over time would hide that.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from penstock.engines.client.counters_text import EngineCounters, read_counters
from penstock.engines.client.metrics_text import EngineLoad, read_load
from penstock.fleet.values_observe import PrometheusOptions
from penstock.serving.scaling.prometheus import Sample

_SHARED = ("prompt_tokens_total", "generation_tokens_total", *(
    f"{name}_seconds_(bucket|sum)" for name in (
        "time_to_first_token", "inter_token_latency", "time_per_output_token",
        "e2e_request_latency")))
_VLLM = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
         "gpu_cache_usage_perc", "request_success_total", "prefix_cache_hits_total", *_SHARED)
_SGLANG = ("num_running_reqs", "num_queue_reqs", "token_usage", "num_requests_total",
           "cached_tokens_total", *_SHARED)
_NAMES = f"vllm:({'|'.join(_VLLM)})|sglang:({'|'.join(_SGLANG)})"
_NAME = re.compile(_NAMES)
_ENDS = ("vllm:request_success_total", "sglang:num_requests_total")
_SAME_SCRAPE_S = 0.5


class Key(NamedTuple):
    """A replica: the engine's name for its model, and the value of the replica's label."""

    model: str
    name: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one replica at its last scrape, ``at_s`` since 1970. ``counters`` is None where
    the replica shows no counter of finished requests."""

    at_s: float
    load: EngineLoad
    counters: EngineCounters | None


def engines_query(options: PrometheusOptions, models: Iterable[str]) -> str:
    """Return the PromQL of all series of the models' engines, as ranges."""
    models_text = "|".join(map(re.escape, models))
    return _range(f"{{__name__=~{_quoted(_NAMES)},{options.model_label}=~{_quoted(models_text)}"
                  f"{_namespace(options)}}}", options)


def arrivals_query(options: PrometheusOptions) -> str:
    """Return the PromQL of the counters of arrivals, as ranges."""
    assert options.arrivals is not None, "the file states a counter"
    return _range(options.arrivals, options)


def down_query(options: PrometheusOptions) -> str:
    """Return the PromQL of the targets that the server cannot scrape at present."""
    matchers = _namespace(options).lstrip(",")
    return f"up{{{matchers}}} == 0"


def replica_name(options: PrometheusOptions, sample: Sample) -> str:
    """Return the value of the label that tells replicas apart, empty without one."""
    return sample.labels.get(options.replica_label) or sample.labels.get("instance", "")


def read_figures(options: PrometheusOptions, samples: Iterable[Sample]) -> dict[Key, Figures]:
    """Return the figures of each replica. Series that a replica's last scrape no longer has, and
    values that are not finite, are left out."""
    by_key: dict[Key, list[Sample]] = {}
    for one in samples:
        name = replica_name(options, one)
        model = one.labels.get(options.model_label, "")
        if name and model and _NAME.fullmatch(one.labels.get("__name__", "")):
            by_key.setdefault(Key(model, name), []).append(one)
    return {key: _figures(_of_last_scrape(found)) for key, found in by_key.items()}


def _of_last_scrape(samples: list[Sample]) -> list[Sample]:
    """Return the samples of the last scrape of each of a replica's targets."""
    last_s: dict[str, float] = {}
    for one in samples:
        instance = one.labels.get("instance", "")
        last_s[instance] = max(last_s.get(instance, one.at_s), one.at_s)
    return [one for one in samples
            if one.at_s >= last_s[one.labels.get("instance", "")] - _SAME_SCRAPE_S]


def _figures(samples: list[Sample]) -> Figures:
    """Return the figures of one replica, read as from the engine's own text."""
    known = [one for one in samples if isfinite(one.value)]
    text = "\n".join(map(_line, known)).encode()
    has_ends = any(one.labels["__name__"] in _ENDS for one in known)
    return Figures(min(one.at_s for one in samples), read_load(text),
                   read_counters(text) if has_ends else None)


def _line(sample: Sample) -> str:
    try:
        bound_s: float | None = float(sample.labels["le"])
    except (KeyError, ValueError):
        bound_s = None
    labels = "" if bound_s is None else f'{{le="{bound_s}"}}'
    return f"{sample.labels['__name__']}{labels} {sample.value}"


def _namespace(options: PrometheusOptions) -> str:
    if options.namespace is None:
        return ""
    return f",{options.namespace_label}={_quoted(options.namespace)}"


def _range(selector: str, options: PrometheusOptions) -> str:
    return f"{selector}[{int(options.stale_s * 1000)}ms]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def counters_by_model(options: PrometheusOptions, samples: Iterable[Sample], models: list[str]
                      ) -> Mapping[str, Mapping[Hashable, float]]:
    """Return counters of arrivals by model and series. Series without the model's label count to
    the only model; where there are several models, such series count to none."""
    found: dict[str, dict[Hashable, float]] = {}
    for one in samples:
        model = one.labels.get(options.model_label) or (models[0] if len(models) == 1 else "")
        if model in models and isfinite(one.value) and one.value >= 0.0:
            found.setdefault(model, {})[tuple(sorted(one.labels.items()))] = one.value
    return found
