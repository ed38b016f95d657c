"""Puts several workloads into one."""

from collections.abc import Sequence

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.loops import joined_loops
from penstock.workload.trace import Labels, Prefixes, no_prefixes, offsets_of
from penstock.workload.workload import IntColumn, Workload


def merged(parts: Sequence[Workload]) -> Workload:
    """All requests by arrival; at equal times the earlier part's come first.

    Raises InputError when the parts hash prompts in blocks of different sizes.
    """
    arrival_s = np.concatenate([part.arrival_s for part in parts])
    order = np.argsort(arrival_s, kind="stable")
    models = _joined([Labels(part.models, part.model_index) for part in parts])
    classes = _joined([Labels(part.service_classes, part.class_index) for part in parts])
    tenants = _joined([Labels(part.tenants, part.tenant_index) for part in parts])
    prefixes = _joined_prefixes(parts).take(order)

    def column(name: str) -> IntColumn:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return Workload(
        arrival_s[order], column("prompt_tokens"), column("output_tokens"), column("max_tokens"),
        models.names, models.index[order], classes.names, classes.index[order],
        tenants.names, tenants.index[order],
        prefixes.offsets, prefixes.values, prefixes.block_tokens,
        loops=joined_loops([(len(part), part.loops) for part in parts], order),
    )


def _joined(parts: Sequence[Labels]) -> Labels:
    """The columns one after the other, over one tuple of distinct names."""
    known: dict[str, int] = {}
    indices: list[IntColumn] = []
    for part in parts:
        places = [known.setdefault(name, len(known)) for name in part.names]
        indices.append(np.array(places, np.int64)[part.index])
    return Labels(tuple(known), np.concatenate(indices))


def _joined_prefixes(parts: Sequence[Workload]) -> Prefixes:
    """All parts' hashes. Sources never share prefixes: each gets a range of values of its own."""
    sizes = {part.hash_block_tokens for part in parts if part.hash_block_tokens}
    if not sizes:
        return no_prefixes()
    if len(sizes) > 1:
        raise InputError(f"traffic sources hash prompts in blocks of {sorted(sizes)} tokens; "
                         "one size is needed")
    counts: list[IntColumn] = []
    values: list[IntColumn] = []
    start = 0
    for part in parts:
        known = part.hash_block_tokens > 0
        counts.append(np.diff(part.hash_offsets) if known else np.zeros(len(part), np.int64))
        values.append(part.hash_values + start)
        start += int(part.hash_values.max(initial=-1)) + 1
    return Prefixes(offsets_of(np.concatenate(counts)), np.concatenate(values), sizes.pop())
