"""Non-negative fits that stalled steps do not lead astray."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, nnls
from scipy.sparse import csr_matrix

from penstock.perf.robust import (
    fit_nonnegative,
    fit_soft_l1,
    isotonic,
    nonnegative_least_squares,
)

SIZES = np.arange(1.0, 41.0)
DESIGN = np.column_stack([np.ones(40), SIZES])
SECONDS = 2.0 + 3.0 * SIZES


@pytest.mark.parametrize("scale_s", [None, np.ones(40), SIZES])
def test_exact_data_is_found_whatever_the_scale(scale_s: np.ndarray | None) -> None:
    assert fit_nonnegative(DESIGN, SECONDS, scale_s) == pytest.approx([2.0, 3.0])


def test_no_coefficient_is_below_zero() -> None:
    assert fit_nonnegative(DESIGN, 3.0 * SIZES - 2.0)[0] == 0.0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["positive", "any sign", "rises of a curve", "dependent"])
def test_non_negative_least_squares_are_those_of_scipy(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = int(rng.integers(3, 30))
    design = {"positive": rng.random((60, columns)), "any sign": rng.normal(size=(60, columns)),
              "rises of a curve": np.clip(rng.random((60, 1)) * columns - np.arange(columns), 0, 1),
              "dependent": rng.random((60, columns))}[kind]
    if kind == "dependent":
        design[:, 1], design[:, 2] = design[:, 0], 0.0
    wanted = design @ np.maximum(rng.normal(size=columns), 0.0) + 0.1 * rng.normal(size=60)
    found = nonnegative_least_squares(design, wanted)
    expected, distance = nnls(design, wanted)
    assert (found >= 0.0).all()
    assert np.linalg.norm(design @ found - wanted) == pytest.approx(distance, rel=1e-9)
    if kind != "dependent":
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


def test_nothing_wanted_needs_no_coefficient() -> None:
    assert nonnegative_least_squares(DESIGN, np.zeros(40)).tolist() == [0.0, 0.0]
    assert nonnegative_least_squares(DESIGN, -SECONDS).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(10))
def test_an_isotonic_sequence_is_that_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=int(rng.integers(1, 40))).round(1)
    np.testing.assert_allclose(isotonic(values), isotonic_regression(values).x, atol=1e-12)


def test_a_wide_huber_loss_follows_the_mean() -> None:
    """A tenth of the loads takes 5 s more: the mean is 0.5 s up, the middle hardly."""
    rng = np.random.default_rng(0)
    seconds = SECONDS + rng.normal(0.0, 0.5, 40) + np.where(np.arange(40) % 10 == 3, 5.0, 0.0)
    off = {huber: float(np.mean(DESIGN @ fit_nonnegative(DESIGN, seconds, np.ones(40), huber=huber)
                                - seconds)) for huber in (1.345, 1e3)}
    assert off[1e3] == pytest.approx(0.0, abs=1e-6)
    assert off[1.345] < -0.2


def test_a_soft_l1_fit_is_held_by_its_prior_where_nothing_is_told() -> None:
    design = csr_matrix(np.column_stack([DESIGN, np.zeros(40)]))
    target = DESIGN @ np.array([0.2, 0.3])
    target[3] += 50.0

    def errors(effects: np.ndarray) -> np.ndarray:
        return np.asarray(design @ effects - target)

    deviation = np.array([10.0, 10.0, 0.5])
    found = fit_soft_l1(np.zeros(3), deviation, errors,
                        lambda effects: (errors(effects), design), 1e-9)
    assert found.effects == pytest.approx([0.2, 0.3, 0.0], abs=0.1)
    assert np.sqrt(np.linalg.inv(found.information)[2, 2]) == pytest.approx(0.5)
    assert found.cost < 110.0
