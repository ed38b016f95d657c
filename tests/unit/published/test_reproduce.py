"""Reproductions on a small scale: every figure is computed, and agreement means what it says."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.niyama.run import figure7_capacity
from penstock.published.reproduce import reproduce


@pytest.mark.parametrize(("figure", "agrees"), [
    (Figure("a", 10.0, 10.5, tolerance=0.06), True),
    (Figure("a", 10.0, 10.7, tolerance=0.06), False),
    (Figure("a", 10.0, 9.0, "at_most"), True),
    (Figure("a", 10.0, 10.1, "at_most"), False),
    (Figure("a", 1.0, 0.99, "at_least"), False),
    (Figure("a", 512, 512, "exact"), True),
    (Figure("a", 512, 513, "exact"), False),
    (Figure("a", None, 7.0, "shown"), True),
])
def test_agreement(figure: Figure, agrees: bool) -> None:
    assert figure.agrees is agrees
    assert Reproduction("x", (figure,)).agrees is agrees


def test_deviation_is_relative_to_the_published_value() -> None:
    assert Figure("a", 4.0, 5.0).deviation == pytest.approx(0.25)
    assert Figure("a", None, 5.0).deviation is None


def test_capacity_is_interpolated_where_violations_cross_one_per_cent() -> None:
    def violations(rate: float) -> float:
        return max(0.0, (rate - 4.0) / 10.0)  # 1 % at a rate of 4.1

    assert figure7_capacity(violations, 2.0) == pytest.approx(4.1, rel=0.01)
    assert figure7_capacity(violations, 40.0) == pytest.approx(4.1, rel=0.01)


def test_vidur_agrees_on_the_shared_file(shared_data: Path) -> None:
    found = reproduce("vidur", shared_data / "vidur", Options())
    assert found.agrees
    assert sum(figure.name.startswith("TTFT") for figure in found.figures) == 4
    assert len(found.rows["requests.csv"]) == 5000


@pytest.mark.long
def test_niyama_on_few_requests_computes_every_figure(shared_data: Path) -> None:
    found = reproduce("niyama", shared_data / "niyama", Options(num_requests=400))
    chunks = [figure for figure in found.figures if figure.kind == "exact"]
    assert len(chunks) == 15
    assert all(figure.agrees for figure in chunks)
    fits = [figure for figure in found.figures if figure.name.startswith("step-time fit")]
    assert len(fits) == 2
    assert all(figure.agrees for figure in fits)
    assert {row["trace"] for row in found.rows["capacity.csv"]} == {"code", "conv", "sharegpt"}


@pytest.mark.parametrize(("system", "word"), [("vidurr", "did you mean 'vidur'"),
                                              ("vidur", "holds no"), ("niyama", "holds no")])
def test_bad_input_is_told(tmp_path: Path, system: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        reproduce(system, tmp_path, Options())
    with pytest.raises(InputError, match=r"no such folder|did you mean"):
        reproduce(system, tmp_path / "absent", Options())


@pytest.mark.parametrize("system", ["inferno", "kernels", "maveriq", "vidur"])
def test_a_number_of_requests_that_would_mean_nothing_is_refused(tmp_path: Path,
                                                                 system: str) -> None:
    with pytest.raises(InputError, match=f"--requests: {system} has no runs to shorten; .* one of "
                                         "maveriq-plans, niyama, routebalance$"):
        reproduce(system, tmp_path, Options(num_requests=100))


def test_a_capacity_that_no_rate_ends_is_told() -> None:
    with pytest.raises(InputError, match=r"^--requests: so few requests .*; expected more$"):
        figure7_capacity(lambda rate: 0.0, 2.0)
