"""Load of an engine from its /metrics, under current and older names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.engines.client.draft_counters import DraftCounts, draft_counts

_LINE = re.compile(rb"^(?P<name>[A-Za-z_:][\w:]*)(?:\{[^}]*\})?\s+(?P<value>\S+)", re.MULTILINE)

# The first name that exists counts. Values are sums over the engines and labels of a server.
_NAMES: Mapping[str, tuple[bytes, ...]] = {
    "num_running": (b"vllm:num_requests_running", b"sglang:num_running_reqs",
                    b"llamacpp:requests_processing", b"trtllm_num_requests_running"),
    "num_waiting": (b"vllm:num_requests_waiting", b"sglang:num_queue_reqs",
                    b"llamacpp:requests_deferred", b"trtllm_num_requests_waiting"),
    "kv_used_share": (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc",
                      b"sglang:token_usage", b"llamacpp:kv_cache_usage_ratio",
                      b"trtllm_kv_cache_utilization"),
}


_LORA = re.compile(rb"^vllm:lora_requests_info\{(?P<labels>[^}]*)\}\s+(?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')

_WANTED = frozenset(name for names in _NAMES.values() for name in names)
_KINDS = {b"vllm": "vllm", b"sglang": "sglang", b"llamacpp": "llamacpp"}


@dataclass(frozen=True, slots=True)
class LoraLoad:
    """Names of the adapters whose requests run and wait in an engine."""

    running: frozenset[str]
    waiting: frozenset[str]


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Load as an engine reports it, ``None`` where it does not.

    ``kind`` is the software, recognised by its metrics' names. ``loaded`` says whether the model is
    in memory, for engines that load and unload models. ``lora`` is the load by adapters, ``drafts``
    counts the drafts of speculative decoding.
    """

    num_running: int | None = None
    num_waiting: int | None = None
    kv_used_share: float | None = None
    kind: str | None = None
    loaded: bool | None = None
    lora: LoraLoad | None = None
    drafts: DraftCounts | None = None


def read_load(text: bytes) -> EngineLoad:
    """Read the load from Prometheus text. Several engines in one text are summed; their KV shares
    are averaged."""
    found: dict[bytes, list[float]] = {}
    prefixes: set[bytes] = set()
    for match in _LINE.finditer(text):
        prefix, colon, _ = match["name"].partition(b":")
        if colon:
            prefixes.add(prefix)
        if match["name"] not in _WANTED:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        if value == value and abs(value) < 1e15:
            found.setdefault(match["name"], []).append(value)
    values = {what: next((found[name] for name in names if name in found), None)
              for what, names in _NAMES.items()}
    running, waiting, share = (values[what] for what in
                               ("num_running", "num_waiting", "kv_used_share"))
    return EngineLoad(None if running is None else int(sum(running)),
                      None if waiting is None else int(sum(waiting)),
                      None if share is None else min(1.0, max(0.0, sum(share) / len(share))),
                      next((kind for prefix, kind in _KINDS.items() if prefix in prefixes), None),
                      lora=_lora(text), drafts=_drafts(text))


def _lora(text: bytes) -> LoraLoad | None:
    """Return the load by adapters. An engine leaves its earlier states behind as series of their
    own, each with its time as its value, so the newest series counts."""
    newest_s, newest = -1.0, None
    for match in _LORA.finditer(text):
        try:
            at_s = float(match["value"])
        except ValueError:
            continue
        if at_s > newest_s:
            newest_s, newest = at_s, match["labels"]
    if newest is None:
        return None
    labels = {name: value.decode(errors="replace") for name, value in _LABEL.findall(newest)}
    return LoraLoad(_names(labels.get(b"running_lora_adapters", "")),
                    _names(labels.get(b"waiting_lora_adapters", "")))


def _drafts(text: bytes) -> DraftCounts | None:
    if b"spec_decode" not in text:
        return None
    try:
        return draft_counts(text, "")
    except InputError:  # the rest of the text may tell the load all the same
        return None


def _names(listed: str) -> frozenset[str]:
    return frozenset(name for name in (one.strip() for one in listed.split(",")) if name)
