"""Covers of one demand by whole replicas, against trying everything."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.plan.assign.cover import CoverSearch, Kind

KINDS = st.lists(st.builds(Kind, st.sampled_from((0.0, 1.0, 1.5, 2.0, 3.1)),
                           st.sampled_from((0.5, 1.0, 1.6, 2.3, 3.0)), st.integers(0, 4),
                           st.sampled_from((1, 1, 2))), min_size=1, max_size=3)
UNSERVED = st.sampled_from((float("inf"), 0.5, 2.0, 5.0))


def all_costs(kinds: list[Kind], unserved: float) -> dict[tuple[int, ...], float]:
    found = {}
    for counts in product(*(range(kind.most + 1) for kind in kinds)):
        if any(0 < n < kind.least for n, kind in zip(counts, kinds, strict=True)):
            continue
        left = 1.0 - sum(n / kind.load for n, kind in zip(counts, kinds, strict=True))
        cost = sum(n * kind.price for n, kind in zip(counts, kinds, strict=True))
        found[counts] = cost + (left * unserved if left > 1e-9 else 0.0)
    return found


@given(KINDS, UNSERVED)
def test_the_cheapest_cover_is_found(kinds: list[Kind], unserved: float) -> None:
    costs = all_costs(kinds, unserved)
    search = CoverSearch(kinds, unserved)
    search.run()
    assert search.complete
    assert search.bound == pytest.approx(min(costs.values()))
    if search.covers:
        cost, counts = search.covers[-1]
        assert cost == pytest.approx(costs[counts])
        assert cost == pytest.approx(min(costs.values()))


@given(KINDS, UNSERVED, st.sampled_from((0.3, 1.0)))
def test_all_covers_near_the_best_are_found(kinds: list[Kind], unserved: float,
                                            slack: float) -> None:
    costs = all_costs(kinds, unserved)
    search = CoverSearch(kinds, unserved, slack=slack)
    search.run()
    found = {counts for _, counts in search.covers}
    assert len(found) == len(search.covers)
    for counts, cost in costs.items():
        fewer = [tuple(n - (i == j) for j, n in enumerate(counts)) for i in range(len(counts))]
        # With one replica less it would cost no more and serve as much: not wanted.
        wasteful = any(costs.get(other, float("inf")) <= cost + 1e-9 for other in fewer)
        if cost < min(costs.values()) + slack - 1e-9 and not wasteful:
            assert counts in found


def test_a_search_that_is_cut_short_still_bounds() -> None:
    kinds = [Kind(1.0 + i / 1000, 7.3 + i / 17, 99) for i in range(8)]
    full = CoverSearch(kinds, float("inf"))
    full.run()
    cut = CoverSearch(kinds, float("inf"), limit=3)
    cut.run()
    assert full.complete
    assert not cut.complete
    assert 7.3 - 1e-9 <= cut.bound <= full.bound
