"""MaverIQ's released measurements: its table as published, ours on models left out."""

import pytest

from penstock.published.figures import Figure
from penstock.published.maveriq.estimators import our_figures, published_figures


@pytest.fixture(scope="module")
def data(shared_data):
    found = shared_data / "maveriq"
    if not found.is_dir():
        pytest.skip(f"MaverIQ's measurements are not at {found}")
    return found


def test_the_published_errors_to_a_tenth_of_a_point(data) -> None:
    figures = published_figures(data)
    compared = [figure for figure in figures if figure.published is not None]
    assert len(compared) >= 6 * 4, "mean, median and p95 of L2 and M2 for at least four models"
    assert [figure for figure in compared if not figure.agrees] == []


def test_models_left_out_are_estimated_within_what_was_asked_for(data) -> None:
    figures = {figure.name: figure for figure in our_figures(data)}
    asked: list[Figure] = [figure for figure in figures.values() if figure.published is not None]
    assert len(asked) >= 10
    assert [figure for figure in asked if not figure.agrees] == []
    for intent in ("min_lat", "min_cost"):
        ours, theirs = (figures[f"regret of {intent}{by}, mean, %"].ours
                        for by in ("", " by MaverIQ's estimates"))
        assert ours < theirs
