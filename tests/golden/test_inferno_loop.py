"""Inferno's loop and tuner reproduced on the shared data."""

import pytest

from penstock.published.inferno.loop import run


@pytest.fixture(scope="module")
def folder(shared_data):
    found = shared_data / "inferno"
    if not found.is_dir():
        pytest.skip(f"no {found}")
    return found


def test_trajectories_and_found_parameters(folder):
    figures, tables = run._derived(folder)
    assert all(figure.agrees for figure in figures)
    by_name = {figure.name: figure.ours for figure in figures}
    assert by_name["filter, three_points: largest deviation of a trajectory"] < 1e-9
    assert by_name["ours, three_points: error of gamma"] < 0.01
    assert by_name["filter, single_point: true gamma over found"] == pytest.approx(6.566, abs=0.01)
    assert len(tables["Errors of found parameters"]) == 6


def test_the_measured_trace_and_parameters_learned_on_an_h100(folder):
    figures, _ = run._trace(folder)
    assert figures[0].ours < 0.05
    figures, _ = run._learned(folder)
    assert len(figures) == 8
    assert all(figure.agrees for figure in figures)
