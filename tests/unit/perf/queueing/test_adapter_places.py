"""Waits for places of adapters: cases by hand, and laws."""

from heapq import heapreplace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.perf.queueing.adapter_places import AdapterPlaces, place_waits_s
from support.scaled_examples import unit_examples


def waits(requests, max_loras=1, num_replicas=1, bound_s=None):
    """The waits of requests: (arrival, stay, adapter) each."""
    at_s, stay_s, index = zip(*requests, strict=True)
    return place_waits_s(np.array(at_s, float), np.array(stay_s, float), np.array(index),
                         max_loras, num_replicas, bound_s).tolist()


def test_an_adapter_keeps_its_place_while_any_request_is_started():
    assert waits([(0, 4, 0), (1, 2, 1), (3, 5, 0), (4, 1, 1), (9, 1, 0)]) == [0, 7, 0, 4, 1]
    assert waits([(0, 4, 0), (1, 2, 1), (3, 5, 0)], max_loras=2) == [0, 0, 0]


def test_the_model_itself_needs_no_place():
    assert waits([(0, 4, 0), (1, 9, -1), (2, 1, 1)]) == [0, 0, 2]


def test_adapters_get_places_in_the_order_of_their_oldest_requests():
    assert waits([(0, 9, 0), (1, 1, 1), (2, 3, 2), (3, 2, 1)]) == [0, 8, 9, 6]


def test_a_request_goes_where_its_adapter_is_else_where_fewest_are():
    crowd = [(0, 4, 0), (0, 6, 1), (1, 1, 2), (1, 1, 3), (2, 9, 1), (2, 1, 2)]
    assert waits(crowd, num_replicas=2) == [0, 0, 3, 10, 0, 2]


def test_after_the_bound_an_adapter_takes_no_more_requests():
    busy = [(0.5 * n, 1.0, 0) for n in range(40)]
    rare = (1.2, 1.0, 1)
    at = sorted([*busy, rare])
    place = at.index(rare)
    assert waits(at)[place] == pytest.approx(19.3)  # until the last of the busy one has ended
    bounded = waits(at, bound_s=3.0)
    assert bounded[place] == pytest.approx(3.8)  # to 4.2 it takes requests, the last ends at 5
    assert max(bounded) == bounded[place]
    assert sum(one > 0 for one in bounded) > 1, "the busy one waits for the rare one"


REQUESTS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(-1, 6)),
                    min_size=1, max_size=60).map(sorted)


@given(REQUESTS, st.integers(1, 4), st.integers(1, 3), st.sampled_from((None, 0.0, 2.0, 9.0)))
@unit_examples(200)
def test_no_more_adapters_than_places_are_in_use(requests, max_loras, num_replicas, bound_s):
    found = waits(requests, max_loras, num_replicas, bound_s)
    assert all(one >= 0.0 for one in found)
    starts = sorted({at + wait for (at, _, _), wait in zip(requests, found, strict=True)})
    for now in starts:
        in_use = {adapter for (at, stay, adapter), wait in zip(requests, found, strict=True)
                  if adapter >= 0 and at + wait <= now < at + wait + stay}
        assert len(in_use) <= max_loras * num_replicas
        if num_replicas == 1 and bound_s is None:
            waiting = [at for (at, _, adapter), wait in zip(requests, found, strict=True)
                       if at <= now < at + wait and adapter not in in_use]
            assert not waiting or len(in_use) == max_loras, "a place is free, and one waits"


@given(REQUESTS, st.integers(1, 3))
@unit_examples(100)
def test_adapters_of_one_request_each_are_customers_of_equal_servers(requests, max_loras):
    """First come, first served, by the moments at which servers are free."""
    own = [(at, stay, number) for number, (at, stay, _) in enumerate(requests)]
    free_s, expected = [0.0] * max_loras, []
    for at, stay, _ in own:
        start = max(at, free_s[0])
        heapreplace(free_s, start + stay)
        expected.append(start - at)
    assert waits(own, max_loras) == expected


@given(REQUESTS, st.integers(1, 3))
@unit_examples(100)
def test_with_a_place_for_every_adapter_nobody_waits(requests, num_replicas):
    at_s, stay_s, index = (np.array(column) for column in zip(*requests, strict=True))
    followed = AdapterPlaces(7, num_replicas, 7, None)
    assert not followed.waits_s(at_s, stay_s, index).any()
