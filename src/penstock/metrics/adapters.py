"""The outcome of requests by adapter (LoRA)."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from penstock.metrics.attainment import Attainment
from penstock.metrics.counts import Counts, counts_of
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.percentiles import percentiles_by_key
from penstock.metrics.run_summary import AdapterOutcome, AdapterSummary, Percentiles
from penstock.metrics.table import RequestTable

MOST_ADAPTERS: Final = 20
"""Adapters that a summary names, the most used; the others are one entry."""

_OTHERS: Final = "\0others"  # no adapter has such a name


def adapter_summary(blocks: Callable[[], Iterator[RequestTable]]) -> AdapterSummary | None:
    """Return the outcome of the requests of each adapter; None where none names any. The blocks are
    asked for several times, so that their rows need not be held."""
    uses = _uses(blocks())
    if not uses:
        return None
    named = [name for name, _ in sorted(uses.items(), key=lambda one: (-one[1], one[0])) if name]
    top = named[:MOST_ADAPTERS]
    group_of = {"": "", **{name: name if name in top else _OTHERS for name in named}}
    groups = ["", *top, *([_OTHERS] if len(named) > len(top) else [])]
    counts: dict[str, Counts] = {}

    def parts() -> Iterator[dict[str, RequestTable]]:
        for block in blocks():
            yield _split(block, groups, group_of)

    def columns() -> Iterator[dict[tuple[str, str], FloatColumn]]:
        for part in parts():
            yield {(name, key): column for name, rows in part.items()
                   for key, column in _latencies(rows).items()}

    for part in parts():
        for name, rows in part.items():
            found = counts_of(rows)
            counts[name] = counts[name] + found if name in counts else found
    latencies = percentiles_by_key(columns)
    outcomes = {name: _outcome(counts[name], {key: latencies[name, key] for key in _KEYS})
                for name in groups if counts[name].received}
    return AdapterSummary(num_adapters=len(named),
                          adapters={name: outcomes[name] for name in top},
                          others=outcomes.get(_OTHERS), base=outcomes.get(""))


_KEYS: Final = ("ttft_s", "tpot_s", "e2e_s")


def _uses(blocks: Iterator[RequestTable]) -> Counter[str]:
    """Return the number of requests of each adapter, nothing where no block has adapters."""
    uses: Counter[str] = Counter()
    for block in blocks:
        if block.adapters is not None:
            names = block.adapters.names
            found = np.bincount(block.adapters.index, minlength=len(names)).tolist()
            uses.update({name: num for name, num in zip(names, found, strict=True) if num})
    return uses


def _split(block: RequestTable, groups: list[str], group_of: dict[str, str]
           ) -> dict[str, RequestTable]:
    if block.adapters is None:
        return {name: block if not name else block.take(slice(0, 0)) for name in groups}
    numbers = np.array([groups.index(group_of.get(name, "")) for name in block.adapters.names])
    mine = numbers[block.adapters.index]
    return {name: block.take(mine == number) for number, name in enumerate(groups)}


def _latencies(rows: RequestTable) -> dict[str, FloatColumn]:
    finished = rows.take(rows.finished)
    return {"ttft_s": rows.ttft_s, "tpot_s": finished.tpot_s, "e2e_s": finished.e2e_s}


def _outcome(counts: Counts, latencies: dict[str, Percentiles]) -> AdapterOutcome:
    attainment = Attainment(counts.met, counts.received)
    low, high = attainment.interval or (None, None)
    return AdapterOutcome(received=counts.received, finished=counts.finished, met=counts.met,
                          attainment=attainment.share, attainment_low=low, attainment_high=high,
                          **latencies)
