"""Prefix hashes of a workload's requests, by tenant."""

from dataclasses import replace

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.workload.requests import requests
from support.small_fleet import FLEET

HASHES = (5, 6, 7)


def workload():
    """A conversation that two tenants have in turn."""
    whole = fleet_workload(parse_fleet(FLEET))
    number = len(whole)
    return replace(whole, tenants=("a", "b"), tenant_index=np.arange(number) % 2,
                   hash_block_tokens=16, hash_values=np.tile(np.array(HASHES), number),
                   hash_offsets=np.arange(number + 1) * len(HASHES))


def seen(*prefix_domain):
    classes = {name: ServiceClass(name) for name in ("chat", "batch")}
    return [one.prefix_hashes for one in requests(workload(), classes, (), *prefix_domain)]


def test_tenants_that_share_have_the_hashes_of_the_trace() -> None:
    assert set(seen()) == set(seen(lambda _: "")) == set(seen(lambda _: "x")) == {HASHES}


def test_tenants_that_do_not_share_have_other_hashes_of_equal_prompts() -> None:
    found = seen(lambda tenant: tenant)
    assert len(set(found)) == 2
    assert found[0] == found[2] != found[1] == found[3]
    assert not set(found[0]) & set(found[1])
    assert all(0 <= one < 1 << 63 for hashes in found for one in hashes)
