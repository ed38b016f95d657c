"""Puts several workloads into one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.workload.links import joined_links
from penstock.workload.loops import joined_loops
from penstock.workload.select import COLUMNS, part_of
from penstock.workload.trace import Labels, Prefixes, no_prefixes, offsets_of
from penstock.workload.workload import IntColumn, Traffic, Workload


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
    adapters = _joined_adapters(parts)

    def column(name: str) -> IntColumn:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return Workload(
        arrival_s[order], column("prompt_tokens"), column("output_tokens"), column("max_tokens"),
        models.names, models.index[order], classes.names, classes.index[order],
        tenants.names, tenants.index[order],
        prefixes.offsets, prefixes.values, prefixes.block_tokens,
        loops=joined_loops([(len(part), part.loops) for part in parts], order),
        links=joined_links([(len(part), part.links) for part in parts], order),
        tasks=_joined_tasks(parts, order),
        adapters=() if adapters is None else adapters.names,
        adapter_index=None if adapters is None else adapters.index[order],
    )


def _joined_adapters(parts: Sequence[Workload]) -> Labels | None:
    """The adapters of all parts, None where no request names any."""
    if all(part.adapter_index is None for part in parts):
        return None
    return _joined([Labels(("",), np.zeros(len(part), np.int64)) if part.adapter_index is None
                    else Labels(part.adapters, part.adapter_index) for part in parts])


def _joined_tasks(parts: Sequence[Workload], order: IntColumn) -> IntColumn | None:
    """The sessions of all parts. Parts never share a session: each gets numbers of its own."""
    if all(part.tasks is None for part in parts):
        return None
    found: list[IntColumn] = []
    first = 0
    for part in parts:
        tasks = np.full(len(part), -1, np.int64) if part.tasks is None else part.tasks
        found.append(np.where(tasks < 0, -1, tasks + first))
        first += int(tasks.max(initial=-1)) + 1
    return np.concatenate(found)[order]


def joined(parts: Sequence[Workload]) -> Workload:
    """Consecutive blocks of one source, without prefix hashes and loops where there are several."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (*COLUMNS, "adapter_index") if getattr(parts[0], name) is not None}
    return replace(parts[0], **columns)


def sampled(traffic: Traffic, most: int) -> tuple[Workload, int]:
    """Return at most ``most`` requests, evenly spread over the traffic, and the number of requests
    that each stands for. Requests that are in memory are returned as they are."""
    if isinstance(traffic, Workload):
        return traffic, 1
    step = max(1, ceil_div(len(traffic), most))
    columns: dict[str, Any] = {}
    first = taken = 0
    for block in traffic.blocks():
        part = part_of(block, slice(-first % step, None, step))
        for name in COLUMNS:  # copied, because views would keep all blocks
            column = getattr(part, name)
            into = columns.setdefault(name, np.empty(ceil_div(len(traffic), step), column.dtype))
            into[taken:taken + len(part)] = column
        first, taken = first + len(block), taken + len(part)
    return replace(part, **columns), step


def merged_blocks(streams: Sequence[Iterator[Workload]]) -> Iterator[Workload]:
    """Merge blocks of several sources by arrival as ``merged`` does, a block at a time.

    Each stream yields at least one block, and the same names with each. A round hands over all
    requests before the earliest end of the blocks that are at hand, and takes the next block where
    that end was.
    """
    present = [next(stream) for stream in streams]
    open_ = [True] * len(present)
    while any(open_):
        first = min((place for place, is_open in enumerate(open_) if is_open),
                    key=lambda place: present[place].duration_s)
        until_s = present[first].duration_s
        cuts = [int(one.arrival_s.searchsorted(until_s, "left")) for one in present]
        due = merged([part_of(one, slice(0, cut)) for one, cut in zip(present, cuts, strict=True)])
        if len(due):
            yield due
        present = [part_of(one, slice(cut, None)) for one, cut in zip(present, cuts, strict=True)]
        following = next(streams[first], None)
        if following is None:
            open_[first] = False
        else:
            present[first] = joined([present[first], following])
    rest = merged(present)
    if len(rest):
        yield rest


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
