"""Figures of runs in which models take turns."""

import numpy as np
import pytest

from penstock.experiment.swapping import device_time, figures
from penstock.policy.multiplex.values import OVERWRITTEN
from penstock.sim.multiplex.record import BatchRecord, LoadRecord, MultiplexRun

NAN = float("nan")


def run(**changes: object) -> MultiplexRun:
    """Five requests: in time, late, lost, shed, still waiting."""
    values: dict[str, object] = {
        "model": np.zeros(5, np.int64), "arrival_s": np.array([0.0, 1.0, 2.0, 3.0, 4.0]),
        "deadline_s": np.array([10.0, 11.0, 12.0, 13.0, 14.0]),
        "begin_s": np.array([4.0, 10.0, NAN, NAN, NAN]),
        "end_s": np.array([6.0, 13.0, NAN, NAN, NAN]),
        "shed_s": np.array([NAN, NAN, 5.0, 6.0, NAN]),
        "reason": np.array([-1, -1, 0, 1, -1]), "reasons": (OVERWRITTEN, "too late"),
        "loads": (LoadRecord(0, 0, 0.0, 4.0, False), LoadRecord(0, 1, 18.0, 4.0, True)),
        "batches": (BatchRecord(0, 0, 4.0, 2.0, 1), BatchRecord(0, 0, 10.0, 3.0, 1)),
        "num_waiting": 1}
    return MultiplexRun(**{**values, **changes})  # type: ignore[arg-type]


def test_fates_and_both_denominators() -> None:
    found = figures(run(), 20.0)
    assert {name: found[name] for name in ("received", "served", "in_sla", "lost", "shed",
                                           "unfinished")} == {
        "received": 5, "served": 2, "in_sla": 1, "lost": 1, "shed": 1, "unfinished": 1}
    assert (found["sla_served"], found["sla_received"]) == (0.5, 0.2)
    assert found["goodput_per_s"] == 1 / 20
    assert (found["latency_mean_s"], found["latency_p50_s"], found["latency_p95_s"]) == (9, 6, 12)
    assert found["reasons"] == {OVERWRITTEN: 1, "too late": 1}
    assert (found["loads"], found["failed_loads"], found["load_mean_s"]) == (2, 1, 4.0)


def test_time_is_cut_at_the_end_and_overlap_counts_for_both() -> None:
    assert device_time(run(), 20.0) == {
        "loading_share": 6 / 20, "computing_share": 5 / 20, "idle_share": pytest.approx(9 / 20)}
    beside = run(batches=(BatchRecord(0, 0, 1.0, 3.0, 1), BatchRecord(0, 1, 2.0, 1.0, 1)))
    assert device_time(beside, 4.0) == {"loading_share": 1.0, "computing_share": 3 / 4,
                                        "idle_share": 0.0}
    assert device_time(run(), 20.0, (0, 1))["loading_share"] == 6 / 40


def test_a_run_of_nothing() -> None:
    none = np.array([], np.float64)
    empty = run(model=none.astype(np.int64), arrival_s=none, deadline_s=none, begin_s=none,
                end_s=none, shed_s=none, reason=none.astype(np.int64), reasons=(), loads=(),
                batches=(), num_waiting=0)
    found = figures(empty, 20.0)
    assert found["sla_received"] is found["sla_served"] is found["latency_mean_s"] is None
    assert found["mean_batch"] is found["load_mean_s"] is found["latency_p50_s"] is None
    assert found["idle_share"] == 1.0
