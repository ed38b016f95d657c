"""Estimates follow what a deployment takes, and forget slowly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.perf.fingerprint.recalibrate import Recalibration


def test_nothing_seen_changes_nothing() -> None:
    assert Recalibration(1.0).corrected_s(2.5) == 2.5


@pytest.mark.parametrize(("scale", "offset_s"), [(0.8, 0.0), (1.25, 0.0), (1.0, 0.3), (0.9, 0.2)])
def test_scale_and_offset_are_learnt(scale: float, offset_s: float) -> None:
    found = Recalibration(1.0)
    for i in range(400):
        estimate_s = 0.5 + (i % 7) * 0.5
        found.observe(estimate_s, scale * estimate_s + offset_s)
    for estimate_s in (0.5, 1.0, 3.0):
        assert found.corrected_s(estimate_s) == pytest.approx(scale * estimate_s + offset_s,
                                                              rel=0.06)


def test_one_stall_moves_it_little() -> None:
    found = Recalibration(1.0)
    for _ in range(100):
        found.observe(1.0, 1.0)
    found.observe(1.0, 500.0)
    assert found.corrected_s(1.0) < 1.1


def test_what_is_no_duration_is_passed_over() -> None:
    found = Recalibration(1.0)
    for estimated, observed in ((0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))):
        found.observe(estimated, observed)
    assert found.num_observed == 0


@given(st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(0.01, 100.0)), max_size=50),
       st.floats(0.01, 100.0))
def test_a_corrected_estimate_is_a_duration(seen: list[tuple[float, float]],
                                            estimate_s: float) -> None:
    found = Recalibration(1.0)
    for estimated, observed in seen:
        found.observe(estimated, observed)
    assert found.corrected_s(estimate_s) > 0.0
