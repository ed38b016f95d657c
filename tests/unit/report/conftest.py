"""A made-up run that the report's tests share."""

from types import SimpleNamespace

import numpy as np
import pytest

from penstock.metrics.series import RunSeries
from penstock.metrics.summary import Usage, summarise
from support.made_up_run import CLASSES, make_series, make_table


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
