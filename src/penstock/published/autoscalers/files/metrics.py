"""Metrics of engines under the names that autoscalers' files have.

Sources: the metrics that vLLM, SGLang and TensorRT-LLM's server export. An adapter for Kubernetes
may write ``_`` for the colon.
"""

import re
from typing import NamedTuple

from penstock.published.autoscalers.files.fields import hint

KNOWN = {
    "vllm:num_requests_running": "num_running", "vllm:num_requests_waiting": "num_waiting",
    "vllm:kv_cache_usage_perc": "kv_used_share", "vllm:gpu_cache_usage_perc": "kv_used_share",
    "sglang:num_running_reqs": "num_running", "sglang:num_queue_reqs": "num_waiting",
    "sglang:token_usage": "kv_used_share", "trtllm_num_requests_running": "num_running",
    "trtllm_num_requests_waiting": "num_waiting", "trtllm_kv_cache_utilization": "kv_used_share"}
"""Penstock's metric of a pod by the engine's name."""

_BY_NAME = {**KNOWN, **{name.replace(":", "_"): metric for name, metric in KNOWN.items()}}
_SELECTOR = re.compile(r"\{[^{}]*\}")
_GROUPING = r"(?:\s*(?:by|without)\s*\([^()]*\))?"
_JOIN = re.compile(rf"\s*(sum|avg|max|min){_GROUPING}\s*\(\s*([A-Za-z_:][\w:]*)\s*\){_GROUPING}\s*")
_JOINED = {"sum": "sum", "avg": "mean", "max": "max", "min": "min"}
_FORM = ("expected one metric within sum, avg, max or min, such as "
         "sum(vllm:num_requests_waiting), or sums of waiting and running with +")


class Query(NamedTuple):
    """A query's metric, and how the pods' values are joined."""

    metric: str
    of: str


def metric_named(name: str) -> str | None:
    """Return Penstock's metric of a pod, None for a metric that no law has."""
    return _BY_NAME.get(name)


def unknown_metric(name: str) -> str:
    """Return the reason for an unknown metric, with the supported ones."""
    return f"metric {name[:60]!r} is not supported{hint(name, KNOWN)}"


def read_query(query: str) -> Query | str:
    """Return the metric of a Prometheus query, or the reason why the query is refused.

    Label selectors choose the group's own pods, so they are left out.
    """
    bare = _SELECTOR.sub("", query)
    found = []
    for part in bare.split("+"):
        match = _JOIN.fullmatch(part)
        if match is None:
            words = re.findall(r"[A-Za-z_]\w*:[\w:]+|trtllm_\w+", part)
            unknown = [word for word in words if metric_named(word) is None]
            return unknown_metric(unknown[0]) if unknown else f"found {query[:80]!r}; {_FORM}"
        metric = metric_named(match[2])
        if metric is None:
            return unknown_metric(match[2])
        found.append(Query(metric, _JOINED[match[1]]))
    if len(found) == 1:
        return found[0]
    if set(found) == {Query("num_waiting", "sum"), Query("num_running", "sum")} and len(found) == 2:
        return Query("ongoing", "sum")
    return f"found {query[:80]!r}; {_FORM}"
