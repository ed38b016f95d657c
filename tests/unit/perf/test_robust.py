"""Non-negative fits that stalled steps do not lead astray."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from penstock.perf.robust import fit_nonnegative, fit_soft_l1

SIZES = np.arange(1.0, 41.0)
DESIGN = np.column_stack([np.ones(40), SIZES])
SECONDS = 2.0 + 3.0 * SIZES


@pytest.mark.parametrize("scale_s", [None, np.ones(40), SIZES])
def test_exact_data_is_found_whatever_the_scale(scale_s: np.ndarray | None) -> None:
    assert fit_nonnegative(DESIGN, SECONDS, scale_s) == pytest.approx([2.0, 3.0])


def test_no_coefficient_is_below_zero() -> None:
    assert fit_nonnegative(DESIGN, 3.0 * SIZES - 2.0)[0] == 0.0


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
