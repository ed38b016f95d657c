"""Adapters (LoRA) that requests name: drawn by share, or by a trace's column of models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from penstock.workload.lengths import LengthPairs
from penstock.workload.named import named
from penstock.workload.source import TrafficSource
from penstock.workload.trace import Labels, Trace
from penstock.workload.workload import Workload


def by_popularity(adapters: Sequence[str], exponent: float) -> dict[str, float]:
    """Return weights by Zipf's law: the adapter at place i, from 1, has 1 / i^exponent."""
    return {name: place ** -exponent for place, name in enumerate(adapters, 1)}


def with_base(weights: Mapping[str, float], base_share: float) -> dict[str, float]:
    """Return shares of the adapters, and of the model itself under the empty name."""
    total = sum(weights.values())
    shares = {name: weight / total * (1.0 - base_share) for name, weight in weights.items()}
    return {"": base_share, **shares} if base_share > 0.0 else shares


def drawn_adapters(rng: np.random.Generator, source: TrafficSource, pairs: LengthPairs,
                   trace: Trace | None) -> Labels | None:
    """Return the adapter of each request, None where no request may name any."""
    if source.adapters:
        return named(rng, "adapter", source.adapters, pairs, None)
    if not source.adapter_classes or trace is None or trace.model is None or pairs.rows is None:
        return None
    own = trace.model.take(pairs.rows)
    names = tuple(name if name in source.adapter_classes else "" for name in own.names)
    return Labels(names, own.index) if any(names) else None


def with_adapter_classes(workload: Workload, classes: Mapping[str, str | None]) -> Workload:
    """Return the requests with the service class of their adapter, where that has one."""
    wanted = [classes.get(name) for name in workload.adapters]
    if workload.adapter_index is None or not any(wanted):
        return workload
    names = tuple(dict.fromkeys((*workload.service_classes, *filter(None, wanted))))
    own = np.array([-1 if name is None else names.index(name) for name in wanted], np.int64)
    index = own[workload.adapter_index]
    return replace(workload, service_classes=names,
                   class_index=np.where(index < 0, workload.class_index, index))
