import numpy as np
import pytest

from penstock.predict.prompts.cells import cells, spread_coverage, spread_scale


def test_cells_part_all_rows_by_likeness() -> None:
    rng = np.random.default_rng(0)
    vectors = np.vstack([rng.normal(0, 0.1, (100, 3)), rng.normal(5, 0.1, (100, 3))])
    groups = cells(vectors.astype(np.float32), 64)
    assert sorted(np.concatenate(groups)) == list(range(200))
    assert all(len(group) <= 64 for group in groups)
    assert all(len({int(place) // 100 for place in group}) == 1 for group in groups)


@pytest.mark.parametrize("true_sd", [0.0, 0.05, 0.2])
def test_the_scale_makes_stated_spreads_true(true_sd: float) -> None:
    """Cells whose expectation is off by a normal error of known spread, answers right or wrong."""
    rng = np.random.default_rng(1)
    errors, groups = np.empty(40_000), [np.arange(n * 100, (n + 1) * 100) for n in range(400)]
    for group in groups:
        chance = np.clip(0.5 + rng.normal(0, true_sd), 0, 1) if true_sd else 0.5
        errors[group] = (rng.random(100) < chance) - 0.5
    stated = np.full(40_000, 0.1)
    scale = spread_scale(errors, stated, groups)
    assert scale * 0.1 == pytest.approx(true_sd, abs=0.02)
    assert spread_coverage(errors, scale * stated, groups) == pytest.approx(0.9, abs=0.05)
    # Half as wide is found out, where there is anything to be found.
    if true_sd == 0.2:
        assert spread_coverage(errors, 0.5 * scale * stated, groups) < 0.75


def test_rows_without_judgement_do_not_count() -> None:
    errors = np.array([0.5, -0.5, np.nan, 0.1])
    groups = [np.array([0, 1, 2]), np.array([3])]
    assert spread_coverage(errors, np.full(4, 0.1), groups) == 1.0
    assert np.isnan(spread_coverage(np.full(4, np.nan), np.full(4, 0.1), groups))
