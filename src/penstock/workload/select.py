"""A workload with only some of its requests, or at another pace."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.workload.links import links_of
from penstock.workload.loops import loops_of
from penstock.workload.workload import Workload

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "max_tokens", "model_index",
            "class_index", "tenant_index")


def _columns(workload: Workload, rows: NDArray[Any] | slice) -> dict[str, Any]:
    found = {name: getattr(workload, name)[rows] for name in COLUMNS}
    if workload.tasks is not None:
        found["tasks"] = workload.tasks[rows]
    if workload.adapter_index is not None:
        found["adapter_index"] = workload.adapter_index[rows]
    return found


def part_of(workload: Workload, rows: slice) -> Workload:
    """Consecutive requests of a workload, as views, without prefix hashes, loops and links."""
    return replace(workload, **_columns(workload, rows))


def rearranged(workload: Workload, order: NDArray[np.int64], arrival_s: NDArray[np.float64]
               ) -> Workload:
    """The requests ``order`` in that order, at other times. Prefixes of prompts are left out."""
    columns = {**_columns(workload, order), "arrival_s": arrival_s}
    answers = workload.answers and workload.answers.take(order)
    return replace(workload, **columns, hash_offsets=workload.hash_offsets[:0],
                   hash_values=workload.hash_values[:0], answers=answers, loops=None,
                   links=None)


def select(workload: Workload, rows: NDArray[np.bool_]) -> Workload:
    """The requests that the mask ``rows`` picks, in the same order; arrival times are kept."""
    if rows.all():
        return workload
    columns = _columns(workload, rows)
    offsets, values = workload.hash_offsets, workload.hash_values
    if len(offsets):
        lengths = np.diff(offsets)
        values = values[np.repeat(rows, lengths)]
        offsets = np.concatenate(([0], np.cumsum(lengths[rows])))
    answers = workload.answers and workload.answers.take(np.flatnonzero(rows))
    loops = workload.loops and loops_of(workload.loops, rows)
    links = workload.links and links_of(workload.links, rows)
    return replace(workload, **columns, hash_offsets=offsets, hash_values=values, answers=answers,
                   loops=loops, links=links)
