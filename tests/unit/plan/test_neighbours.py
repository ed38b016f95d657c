"""Fleets that may be cheaper, before anything is simulated."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.sources import fleet_workload
from penstock.plan import neighbours
from penstock.plan.demands import demands_of
from penstock.plan.estimate import Candidate
from penstock.plan.neighbours import DOUBT, LEAST_SAVING, cheaper
from penstock.plan.propose import Choice
from penstock.plan.variants import variants_of
from support.small_plans import cards, fleet, traffic

KINDS = ("a100-80gb-bf16", "l40s-bf16", "l4-bf16")


@pytest.fixture(scope="module")
def choice():
    found = fleet(traffic(rate_per_s=8, num_requests=80), plan={"tensor": [1]},
                  accelerators=cards(a100_80gb=None, l40s=None, l4=None))
    demand, = demands_of(found, (fleet_workload(found, 0),))
    variants, _ = variants_of(found, demand.model, demand.longest_tokens)
    return Choice(demand, tuple(Candidate(v, 1.0, 1, "", None, ()) for v in variants))


def cost_of(choice, counts):
    return sum(n * choice.candidate(name).variant.cost_per_hour for name, n in counts)


@given(rates=st.tuples(*[st.floats(0.0, 4.0)] * 3), below=st.floats(0.1, 12.0),
       room=st.dictionaries(st.sampled_from(["a100-80gb", "l40s", "l4"]), st.integers(0, 4)))
def test_none_means_that_there_is_none(choice, rates, below, room):
    believed = dict(zip(KINDS, rates, strict=True))
    found = cheaper(choice, below, believed, room, (), mixed=True)
    most = (1.0 - LEAST_SAVING) * below
    rate_per_s = choice.demand.rate_per_s
    if found is not None:
        assert cost_of(choice, found) <= most + 1e-9
        assert sum(n * believed[name] for name, n in found) >= DOUBT * rate_per_s
        assert all(n <= room.get(name.removesuffix("-bf16"), n) for name, n in found)
        return
    for counts in product(*(range(min(15, room.get(name.removesuffix("-bf16"), 15)) + 1)
                            for name in KINDS)):
        fleet_of = [(name, n) for name, n in zip(KINDS, counts, strict=True) if n]
        assert (cost_of(choice, fleet_of) > most - 1e-9
                or sum(n * believed[name] for name, n in fleet_of) < DOUBT * rate_per_s + 1e-9)


def test_few_kinds_come_first_and_what_was_tried_is_not_tried_again(choice):
    believed = {"a100-80gb-bf16": 5.0, "l40s-bf16": 4.5, "l4-bf16": 1.5}
    tried = []
    while (found := cheaper(choice, 10.0, believed, {}, tried, mixed=True)) is not None:
        assert found not in tried
        tried.append(found)
    sizes = [len(counts) for counts in tried]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 3}
    for number, counts in enumerate(tried):
        for earlier in tried[:number]:
            assert dict(counts).keys() != dict(earlier).keys() or any(
                n > dict(earlier)[name] for name, n in counts)


def test_where_kinds_are_not_mixed_one_is_offered(choice):
    believed = {"a100-80gb-bf16": 5.0, "l40s-bf16": 4.5, "l4-bf16": 1.5}
    tried = []
    while (found := cheaper(choice, 10.0, believed, {}, tried, mixed=False)) is not None:
        tried.append(found)
    assert {len(counts) for counts in tried} == {1}


def test_large_fleets_of_three_kinds_are_not_all_listed(choice, monkeypatch):
    """Some 900 replicas of each kind would do: the fleets that carry enough are few of them."""
    listed = []
    real = neighbours._most
    monkeypatch.setattr(neighbours, "_most", lambda *given: listed.append(given) or real(*given))
    rate_per_s = choice.demand.rate_per_s
    prices = {c.variant.name: c.variant.cost_per_hour for c in choice.candidates}
    believed = {name: rate_per_s * price / 1000.0 for name, price in prices.items()}
    assert cheaper(choice, 955.0, believed, {}, (), mixed=True) is not None
    listed.clear()
    assert cheaper(choice, 900.0, believed, {}, (), mixed=True) is None
    assert len(listed) < 100
