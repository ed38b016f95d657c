"""Capacity of replicas as queues."""

import pytest

from penstock.cli.capacity_queue import queue_document
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from support.small_fleet import FLEET


def test_replicas_with_a_role_are_no_queues():
    fleet = parse_fleet(FLEET, overrides={
        "replicas": [{"role": "prefill"}, {"role": "decode"}],
        "disaggregation": {"transfer": {"gb_per_s": 50}}})
    with pytest.raises(InputError, match="expected replicas without a role, or another method"):
        queue_document(fleet, fleet_workload(fleet))
