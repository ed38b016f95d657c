"""``penstock plan`` on random fleets over the whole catalog. benchmarks/plan_fuzz.py has more."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.plan.estimate import FAILED
from support.long_params import with_long
from support.random_fleets import failed_estimates, random_text

NUM_FLEETS = 25
WITH_PAGE = 5
MANY_REQUESTS = 300
LONG = (11, 12, 19)
"""Seeds of fleets with many proposals."""


@pytest.mark.parametrize("seed", with_long(range(NUM_FLEETS), LONG))
def test_a_random_fleet_is_planned_or_refused(penstock, folder, seed):
    (folder / "fleet.yaml").write_text(random_text(seed, small=True))
    page = [] if seed % WITH_PAGE == 0 else ["--no-report"]
    outcome = penstock("plan", "fleet.yaml", "--json", "--out", "out", *page)
    assert outcome.status in (0, 1, 2), outcome.err
    assert FAILED not in outcome.out
    if outcome.status == 2:
        assert len(outcome.err.splitlines()) == 1
    else:
        assert outcome.json["served_in_full"] is (outcome.status == 0)


@pytest.mark.parametrize("seed", range(NUM_FLEETS))
def test_no_estimate_of_a_random_fleet_fails(seed):
    """Of more requests than a quick plan takes: one of these fleets has many replicas that share
    them, where the wait of the first once came out negative."""
    assert not failed_estimates(random_text(seed, small=True, num_requests=MANY_REQUESTS))


def test_the_random_fleets_are_mostly_planned():
    """A generator whose files are refused would test nothing."""
    loaded = 0
    for seed in range(NUM_FLEETS):
        try:
            parse_fleet(random_text(seed, small=True))
        except InputError:
            continue
        loaded += 1
    assert loaded >= 0.7 * NUM_FLEETS
