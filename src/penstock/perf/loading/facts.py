"""Measurements of a server that swaps models; they ship with Penstock (data/sincere.yaml)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from penstock.core.errors import InputError, nearest
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.store import loading_from
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadErrors


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of ``num`` durations; percentiles where they were kept."""

    mean_s: float
    sd_s: float
    num: int = 0
    p05_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class BatchTime:
    """Seconds of a static batch of n requests: ``intercept_s + per_request_s * n``.

    ``sd_s`` is the standard deviation of all residuals. They grow with the batch:
    ``sd_per_request_s`` times n is that of a batch of n.
    """

    intercept_s: float
    per_request_s: float
    sd_s: float
    sd_per_request_s: float
    num: int

    def seconds(self, batch_size: int) -> float:
        """Mean time of such a batch."""
        return self.intercept_s + self.per_request_s * batch_size


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model in one setting.

    ``load`` is of swaps in service, the first of each run apart; ``profile_load`` and
    ``profile_unload`` are what a profile of 20 loads in a row said beforehand. ``batch`` is of
    batches in service, ``profile_batch_s`` the profile's mean seconds by batch size, the largest of
    which is the last that fitted into memory.
    """

    size_bytes: int
    load: Spread
    profile_load: Spread
    profile_unload: Spread
    batch: BatchTime
    profile_batch_s: Mapping[int, float]

    @property
    def largest_batch(self) -> int:
        """The largest batch that the profile saw run."""
        return max(self.profile_batch_s)


@dataclass(frozen=True, slots=True)
class StrategyFacts:
    """Figures of one kind of strategy. ``load`` is the first of a run, its extra
    beyond the loading model, with the page cache of ``ServingFacts.memory``; the first batch's
    extra is beyond the fit of later ones. Later loads take ``later_load_share`` of the loading
    model, later batches ``later_batch_extra_s`` beyond their model's fit."""

    load: Spread
    load_extra_s: float
    load_extra_p95_s: float
    batch_extra_s: float
    later_load_share: float
    later_batch_extra_s: float


@dataclass(frozen=True, slots=True)
class ServingFacts:
    """Loads and batches of one setting. ``by_strategy`` is by kind of strategy: ``partial`` for
    those with a thread that looks for partial batches, ``other`` for the rest. The first load in
    ``loading`` is that of the rest. ``errors`` are of ``loading`` on held-out runs, and
    ``errors_of_means`` of each model's mean load in its place. ``read_before`` has the models in
    the order in which earlier runs read them last, as far as first loads tell."""

    name: str
    source: str
    confidential: bool
    accelerator: str
    page_cache_bytes: int
    loading: LoadingModel
    models: Mapping[str, ModelFacts]
    by_strategy: Mapping[str, StrategyFacts]
    errors: LoadErrors
    errors_of_means: LoadErrors
    read_before: tuple[str, ...]

    def memory(self) -> HostMemory:
        """The host's memory when a run begins: its page cache outlived the server."""
        memory = HostMemory(self.page_cache_bytes)
        for model in self.read_before:
            memory.read(model, self.models[model].size_bytes)
        return memory


@dataclass(frozen=True, slots=True)
class ComputePenalty:
    """Seconds that confidential mode adds to a batch, the mean over models: by the fits in
    service, as a constant and per request, and the profile's difference by batch size."""

    intercept_s: float
    per_request_s: float
    profile_s: Mapping[int, float]


def published_serving_names() -> tuple[str, ...]:
    """Names of the settings that ship with Penstock."""
    return tuple(_document()["settings"])


def published_serving(name: str) -> ServingFacts:
    """The facts of a setting. Raises InputError with the nearest name when there is none."""
    document = _document()
    settings = document["settings"]
    if name not in settings:
        raise InputError(f"serving facts {name!r} are not published{nearest(name, settings)}")
    own = settings[name]
    loading, page_cache_bytes = loading_from(document["loading"], "data/sincere.yaml: loading")
    if page_cache_bytes is None:
        raise InputError("data/sincere.yaml: loading: 'page_cache_bytes' is missing")
    first = {kind: StrategyFacts(**{**one, "load": Spread(*one["load"])})
             for kind, one in own["by_strategy"].items()}
    other, errors = first["other"], LoadErrors(*own["errors"])
    loading = replace(
        loading, first=FirstLoad(max(0.0, other.load_extra_s), other.load_extra_p95_s),
        evidence=replace(loading.evidence, mean_error=errors.mean, p95_error=errors.p95,
                         sd_s=errors.sd_s))
    return ServingFacts(
        name, document["source"], own["confidential"], document["accelerator"], page_cache_bytes,
        loading if own["confidential"] else replace(loading, confidential=None),
        {model: _model(facts, document["size_bytes"][model])
         for model, facts in own["models"].items()},
        first, errors, LoadErrors(*own["errors_of_means"]),
        tuple(document["read_before"]))


def confidential_terms() -> ConfidentialTerms:
    """Return the terms that confidential mode adds to a load, by the published fit."""
    loading, _ = loading_from(_document()["loading"], "data/sincere.yaml: loading")
    assert loading.confidential is not None
    return loading.confidential


def compute_penalty() -> ComputePenalty:
    """Return the penalty of confidential mode on a batch."""
    found = _document()["compute_penalty"]
    return ComputePenalty(found["intercept_s"], found["per_request_s"], found["profile_s"])


def _model(facts: Mapping[str, Any], size_bytes: int) -> ModelFacts:
    return ModelFacts(size_bytes, Spread(*facts["load"]), Spread(*facts["profile_load"]),
                      Spread(*facts["profile_unload"]), BatchTime(*facts["batch"]),
                      facts["profile_batch_s"])


@cache
def _document() -> dict[str, Any]:
    text = resources.files("penstock.perf").joinpath("data/sincere.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document
