"""The figures of data/sincere.yaml, worked out anew from the tables of SINCERE's runs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.perf.loading.fitting import LoadFit, fit_loads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.profiles.csv_rows import csv_rows
from penstock.published.sincere.loads import SincereBatch, sincere_batches, sincere_loads

SLAS = (40.0, 80.0)  # runs with 60 s are kept back
READ_BEFORE = ("granite-7b", "llama3-8b", "gemma-7b")
SETTINGS = {"sincere-h100": False, "sincere-h100-confidential": True}


def shared_batches(folder: Path) -> list[SincereBatch]:
    return [one for one in sincere_batches(folder) if one.sla_s in SLAS]


def is_partial(one: SincereBatch) -> bool:
    return "PartialBatch" in one.strategy


def spread(values: Sequence[float], *, percentiles: bool = True) -> list[float]:
    cuts = np.quantile(values, [0.05, 0.5, 0.95]).tolist() if percentiles else []
    return [float(np.mean(values)), float(np.std(values)), len(values), *cuts]


def batch_fit(batches: Iterable[SincereBatch]) -> list[float]:
    """Intercept, slope, sd, sd per request (by the median, which few stalls do not move), number;
    each run's first batch is left out."""
    table = np.array([(one.batch_size, one.infer_s) for one in batches if not one.first])
    design = np.column_stack([np.ones(len(table)), table[:, 0]])
    found = np.linalg.lstsq(design, table[:, 1], rcond=None)[0]
    off = table[:, 1] - design @ found
    return [*map(float, found), float(off.std()),
            1.4826 * float(np.median(np.abs(off) / table[:, 0])), len(table)]


def loading_fit(batches: Sequence[SincereBatch]) -> LoadFit:
    return fit_loads(list(sincere_loads(list(batches))), "SINCERE")


def memory_at_start(batches: Sequence[SincereBatch], fit: LoadFit,
                    order: Sequence[str] = READ_BEFORE) -> HostMemory:
    """As if earlier runs had read the models in this order."""
    sizes = {one.model: one.size_bytes for one in batches}
    assert fit.page_cache_bytes is not None
    memory = HostMemory(fit.page_cache_bytes)
    for model in order:
        memory.read(model, sizes[model])
    return memory


def errors_at_start(batches: Sequence[SincereBatch], fit: LoadFit, order: Sequence[str],
                    num_loads: int = 5) -> list[float]:
    """|predicted / measured - 1| of the first loads of runs without partial batches that begin with
    such a page cache."""
    strategies = {one.run: one for one in batches}
    memories: dict[str, HostMemory] = {}
    seen: dict[str, int] = defaultdict(int)
    found = []
    for one in sincere_loads(list(batches)):
        seen[one.run] += 1
        if is_partial(strategies[one.run]) or seen[one.run] > num_loads:
            continue
        memory = memories.setdefault(one.run, memory_at_start(batches, fit, order))
        read = memory.read(one.model, one.size_bytes)
        model = fit.model if one.confidential else replace(fit.model, confidential=None)
        found.append(abs(model.seconds(one.size_bytes, read.cached_bytes) / one.seconds - 1.0))
    return found


def by_strategy(batches: Sequence[SincereBatch], fit: LoadFit, confidential: bool,
                 partial: bool) -> dict[str, Any]:
    strategies = {one.run: one for one in batches}
    model = fit.model if confidential else replace(fit.model, confidential=None)
    found = [(one.seconds, one.seconds - model.seconds(
        one.size_bytes, memory_at_start(batches, fit).held(one.model, one.size_bytes).cached_bytes))
        for one in sincere_loads(list(batches))
        if one.first and one.confidential is confidential
        and is_partial(strategies[one.run]) is partial]
    fits = {name: batch_fit(one for one in batches
                            if one.model == name and one.confidential is confidential)
            for name in {one.model for one in batches}}
    late = [one.infer_s - fits[one.model][0] - fits[one.model][1] * one.batch_size
            for one in batches if one.first and one.confidential is confidential
            and is_partial(one) is partial]
    later = later_loads(batches, fit, confidential, partial)
    usual = [one.infer_s - fits[one.model][0] - fits[one.model][1] * one.batch_size
             for one in batches if not one.first and one.confidential is confidential
             and is_partial(one) is partial]
    return {"later_load_share": sum(took for took, _ in later) / sum(said for _, said in later),
            "later_batch_extra_s": float(np.mean(usual)),
            "load": spread([seconds for seconds, _ in found]),
            "load_extra_s": float(np.mean([extra for _, extra in found])),
            "load_extra_p95_s": float(np.quantile([extra for _, extra in found], 0.95)),
            "batch_extra_s": float(np.mean(late))}


def later_loads(batches: Sequence[SincereBatch], fit: LoadFit, confidential: bool,
                partial: bool) -> list[tuple[float, float]]:
    """Seconds, and what the loading model says, of all but the first loads of runs."""
    strategies = {one.run: one for one in batches}
    model = fit.model if confidential else replace(fit.model, confidential=None)
    memories: dict[str, HostMemory] = {}
    found = []
    for one in sincere_loads(list(batches)):
        if one.confidential is not confidential or is_partial(strategies[one.run]) is not partial:
            continue
        memory = memories.setdefault(one.run, memory_at_start(batches, fit))
        read = memory.read(one.model, one.size_bytes)
        if not one.first:
            found.append((one.seconds, model.seconds(one.size_bytes, read.cached_bytes)))
    return found


def profiled_loads(folder: Path) -> dict[tuple[bool, str], tuple[list[float], list[float]]]:
    found = {}
    for row in csv_rows(folder / "model_load_times.csv", ("setting", "model", "load_mean_s")):
        found[row.text("setting") == "cc", row.text("model")] = (
            [row.number("load_mean_s"), row.number("load_std_s"), 20],
            [row.number("unload_mean_s"), row.number("unload_std_s"), 20])
    return found


def profiled_batches(folder: Path) -> dict[tuple[bool, str], dict[int, float]]:
    found: dict[tuple[bool, str], dict[int, float]] = defaultdict(dict)
    for row in csv_rows(folder / "batch_profiling_agg.csv", ("setting", "model", "batch_size")):
        found[row.text("setting") == "cc", row.text("model")][row.whole("batch_size")] = (
            row.number("processing_time_mean_s"))
    return found


def figures(folder: Path) -> dict[str, Any]:
    """Everything in the file but its words."""
    batches = shared_batches(folder)
    fit = loading_fit(batches)
    loads, timed = profiled_loads(folder), profiled_batches(folder)
    models = sorted({one.model for one in batches})
    settings: dict[str, Any] = {}
    records = list(sincere_loads(batches))
    for name, confidential in SETTINGS.items():
        own = {}
        for model in models:
            swaps = [one.seconds for one in records
                     if one.model == model and one.confidential is confidential and not one.first]
            mine = [one for one in batches
                    if one.model == model and one.confidential is confidential]
            own[model] = {"load": spread(swaps), "profile_load": loads[confidential, model][0],
                          "profile_unload": loads[confidential, model][1],
                          "batch": batch_fit(mine),
                          "profile_batch_s": timed[confidential, model]}
        settings[name] = {"confidential": confidential, "models": own, "by_strategy": {
            kind: by_strategy(batches, fit, confidential, kind == "partial")
            for kind in ("partial", "other")}}
    return {"size_bytes": {one.model: one.size_bytes for one in batches}, "fit": fit,
            "settings": settings, "compute_penalty": penalty(settings, timed, models)}


def penalty(settings: dict[str, Any], timed: dict[tuple[bool, str], dict[int, float]],
            models: Sequence[str]) -> dict[str, Any]:
    fits = {name: np.mean([settings[name]["models"][model]["batch"][:2] for model in models],
                          axis=0) for name in SETTINGS}
    more = fits["sincere-h100-confidential"] - fits["sincere-h100"]
    sizes = sorted(set.intersection(*(set(table) for table in timed.values())))
    return {"intercept_s": float(more[0]), "per_request_s": float(more[1]), "profile_s": {
        size: float(np.mean([timed[True, model][size] - timed[False, model][size]
                             for model in models])) for size in sizes}}
