"""A made-up run: requests of three classes, and a replica over time."""

import numpy as np

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import FINISHED, REJECTED, RequestTable

CLASSES = (ServiceClass("interactive", Slo(ttft_s=1.5, itl_s=0.05)),
           ServiceClass("strict", Slo(ttft_s=2.0, itl_s=0.02, itl="strict")),
           ServiceClass("batch", Slo(e2e_s=60.0, percentile=90)))


def make_table(num, seed=5):
    random = np.random.default_rng(seed)
    arrival = np.sort(random.uniform(0, num / 10, num))
    status = np.where(random.random(num) < 0.01, REJECTED, FINISHED).astype(np.int8)
    served = np.where(status == FINISHED, 0.0, np.nan)
    tokens = np.where(status == FINISHED, random.geometric(1 / 80, num), 0)
    scheduled = arrival + served + random.exponential(0.2, num)
    first = scheduled + random.gamma(2, 0.1, num)
    gap = random.gamma(9, 0.003, num)
    zero = np.zeros(num, np.int32)
    return RequestTable(
        np.arange(num), zero, random.integers(0, 3, num).astype(np.int32), zero, zero, arrival,
        random.integers(10, 4000, num), tokens, scheduled, first, first + (tokens - 1) * gap,
        gap + served, 1.5 * gap + served, 2 * gap + served, np.zeros(num, np.int64), zero, zero,
        status, np.zeros(num, np.bool_), ("llama-3-8b",), tuple(c.name for c in CLASSES),
        ("default",)).judged({c.name: c.slo for c in CLASSES})


def make_series(num, end_s):
    random = np.random.default_rng(1)
    steps = random.integers(0, 200, num)
    return RunSeries((ReplicaSeries(
        0, np.linspace(0.1, end_s, num), random.gamma(5, 0.01, num), steps * 8, steps, steps // 4,
        steps * 100, 40_000),))
