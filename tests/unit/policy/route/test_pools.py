"""Who serves a request: a replica, or a model of a pool, and which."""

from itertools import permutations, product

import pytest

from penstock.policy.route.pools import Availability, PooledModel, choose_pooled, goes_to_pool

NOW, LATER, NEVER = Availability(True, True), Availability(False, True), Availability(False, False)


@pytest.mark.parametrize(("replicas", "confidential", "attestable", "pool"), [
    (NOW, False, False, False), (NOW, True, True, False),
    (LATER, False, False, True), (NEVER, False, False, True),
    (LATER, True, True, True), (LATER, True, False, False),  # it waits for an attestation
    (NEVER, True, True, True), (NEVER, True, False, True)])  # the pool says why it cannot
def test_a_replica_that_is_ready_goes_before_a_pool(replicas: Availability, confidential: bool,
                                                    attestable: bool, pool: bool) -> None:
    assert goes_to_pool(replicas, confidential=confidential, attestable=attestable) is pool


def test_the_choice_in_pools_is_the_least_of_what_counts_in_turn() -> None:
    models = [PooledModel(place, resident, waiting, refuses) for place, (refuses, resident, waiting)
              in enumerate(product((False, True), (True, False), (0, 3)))]
    for some in permutations(models, 3):
        assert choose_pooled(some).place == min(one.place for one in some)


def test_of_equals_the_first_is_chosen() -> None:
    assert choose_pooled([PooledModel(4, False, 2), PooledModel(1, False, 2)]).place == 4
