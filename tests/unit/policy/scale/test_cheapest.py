"""The cheapest counts against trying all of them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.cheapest import cheapest_counts, next_best

kinds = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.7, 3.0]),
                           st.sampled_from([0.5, 1.0, 2.0, 2.5]), st.integers(0, 2),
                           st.integers(0, 4)), min_size=1, max_size=3)


@given(kinds, st.floats(0, 20))
def test_no_counts_are_cheaper(drawn, need):
    worth, costs = [one[0] for one in drawn], [one[1] for one in drawn]
    bounds = [(low, low + more) for _, _, low, more in drawn]
    found = cheapest_counts(need, worth, costs, bounds)
    enough = [counts for counts in product(*(range(low, high + 1) for low, high in bounds))
              if sum(n * each for n, each in zip(counts, worth, strict=True)) >= need - 1e-9]
    assert all(low <= n <= high for n, (low, high) in zip(found, bounds, strict=True))
    if not enough:
        assert found == tuple(high if each else low
                              for (low, high), each in zip(bounds, worth, strict=True))
        return
    assert found in enough

    def cost(counts: tuple[int, ...]) -> float:
        return sum(n * each for n, each in zip(counts, costs, strict=True))

    assert cost(found) == pytest.approx(min(map(cost, enough)))


def worth(counts):
    return counts[0] * 1.0 + counts[1] * 2.0


@pytest.mark.parametrize(("counts", "bounds", "found"), [
    ((3, 2), [(1, 4), (0, 4)], (2, 2)),       # the smaller loss
    ((1, 2), [(1, 4), (0, 4)], (1, 1)),       # the first is at its floor
    ((1, 0), [(1, 4), (0, 4)], (2, 0)),       # both are: the cheapest more
    ((1, 0), [(1, 1), (0, 4)], (1, 1)),
    ((1, 0), [(1, 1), (0, 0)], None)])
def test_the_next_best_has_one_fewer_or_at_the_floors_one_more(counts, bounds, found):
    assert next_best(counts, bounds, [5.0, 7.0], worth) == found
