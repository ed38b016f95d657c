"""Which rule of a page cache explains SINCERE's swaps best: R^2 of a fit with its best capacity.

`docs/reference/loading.md` has these figures.
"""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.units import GB
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.records import LoadRecord
from penstock.perf.robust import fit_nonnegative
from penstock.published.sincere.loads import sincere_loads
from support.page_cache_rules import RULES, Rule
from support.sincere_figures import shared_batches


def oldest_model_first(loads: list[tuple[str, float]], capacity_gb: float) -> list[float]:
    memory = HostMemory(round(capacity_gb * GB))
    return [memory.read(model, round(size * GB)).disk_bytes / GB for model, size in loads]


def r2(records: list[LoadRecord], rule: Rule, capacity_gb: float) -> float:
    rows = np.array([not one.first for one in records])
    loads = [(one.model, one.size_bytes / GB) for one in records]
    design = np.column_stack([np.ones(len(records)), [size for _, size in loads],
                              rule(loads, capacity_gb)])[rows]
    seconds = np.array([one.seconds for one in records])[rows]
    found = fit_nonnegative(design, seconds, np.ones_like(seconds), huber=100.0)
    return float(1.0 - np.var(seconds - design @ np.array(found)) / np.var(seconds))


@pytest.mark.parametrize(("confidential", "expected"), [
    (True, {"ours": 0.645, "pages": 0.627, "in proportion": 0.566, "use once": 0.366,
            "newest first": 0.099}),
    (False, {"ours": 0.536, "pages": 0.525, "in proportion": 0.478, "use once": 0.317,
             "newest first": 0.096})])
def test_ours_explains_most(shared_data: Path, confidential: bool,
                            expected: dict[str, float]) -> None:
    records = [one for one in sincere_loads(shared_batches(shared_data / "sincere"))
               if one.confidential is confidential]
    capacities = {"ours": (46, 50, 54, 58), "pages": (60, 66, 68), "in proportion": (42, 50, 58),
                  "use once": (62, 68, 74), "newest first": (42, 54, 66)}
    found = {name: max(r2(records, oldest_model_first if name == "ours" else RULES[name], size)
                       for size in sizes) for name, sizes in capacities.items()}
    assert max(found, key=lambda name: found[name]) == "ours"
    assert found == pytest.approx(expected, abs=0.005)
