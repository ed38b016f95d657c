"""A made-up run that the report's tests share."""

from types import SimpleNamespace

import numpy as np
import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.summary import Usage, summarise
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


@pytest.fixture(scope="session")
def run():
    table = make_table(1500)
    summary = {
        "name": "demo", "engine": "sim", "version": "0.1.0", "seed": 7,
        "fleet": {"replicas": [{"model": "llama-3-8b", "accelerator": "a100-80gb", "count": 2}]},
        **summarise(table, CLASSES, Usage(np.array([90.0, 60.0]), 8.2)).document(),
        "sizing": {"variable": "num_replicas", "chosen": 2, "tried": [
            {"value": 2, "attainment": {"interactive": 0.99, "batch": 1.0}, "meets_slo": True},
            {"value": 1, "attainment": {"interactive": 0.5, "batch": 0.9}, "meets_slo": False}]},
        "refusals": [{"reason": "cannot start in time", "num_requests": 14}],
    }
    return SimpleNamespace(table=table, summary=summary, series=make_series(3000, 150.0))


@pytest.fixture(scope="session")
def empty_run():
    table = make_table(0)
    summary = summarise(table, CLASSES, Usage(np.zeros(0), 0.0)).document()
    return SimpleNamespace(table=table, summary=summary, series=RunSeries())
