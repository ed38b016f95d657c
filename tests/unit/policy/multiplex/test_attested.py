"""Confidential requests under any multiplexing policy."""

import numpy as np
import pytest

from penstock.core.attestation import EXPIRED, NO_ATTESTATION, Attestation, Confidentiality
from penstock.policy.multiplex.attested import OnlyAttested
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Load, Queued, Shed, Wait
from support.multiplexing_cases import multiplexing

MODELS = [HostedModel("m", 10, BatchTime(1.0, 0.5), max_batch=8)]


def until(end_s: float) -> Confidentiality:
    return Confidentiality(True, (Attestation("test", 0.0, end_s),))


def policy(devices: Confidentiality, confidential: set[int]) -> OnlyAttested:
    return OnlyAttested(multiplexing("first-come", MODELS, LoadTable([5.0])), devices, confidential)


def test_who_may_not_come_is_turned_away_at_once() -> None:
    one = policy(Confidentiality(True), {0})
    device = Device(0, 100, MODELS)
    for request_id in (0, 1):
        one.add(Queued(request_id, 0, 0.0), 0.0)
    assert one.num_waiting == 2
    shed = one.next(device, 0.0)
    assert isinstance(shed, Shed)
    assert [request.request_id for request in shed.requests] == [0]
    assert NO_ATTESTATION in shed.reason
    assert one.num_waiting == 1
    assert one.refused == {0}
    assert one.next(device, 0.0) == Load(0)


def loaded(one: OnlyAttested, device: Device, num: int) -> None:
    """All of ``num`` requests wait, the model is there 5 s later."""
    for request_id in range(num):
        one.add(Queued(request_id, 0, 0.0), 0.0)
    load = one.next(device, 0.0)
    assert isinstance(load, Load)
    device.begin_load(load)
    device.end_load(5.0, loaded=True)
    one.loaded(device, 0, 5.0, failed=False)


def test_an_attestation_that_ends_while_requests_wait_keeps_the_others() -> None:
    one = policy(until(4.0), {1, 3})
    device = Device(0, 100, MODELS)
    loaded(one, device, 4)
    shed = one.next(device, 5.0)
    assert isinstance(shed, Shed)
    assert [request.request_id for request in shed.requests] == [1, 3]
    assert EXPIRED in shed.reason
    assert one.num_waiting == 2
    batch = one.next(device, 5.0)
    assert isinstance(batch, Batch)
    assert [request.request_id for request in batch.requests] == [0, 2]
    assert one.num_waiting == 0
    device.begin_batch(batch)
    assert isinstance(one.next(device, 5.0), Wait)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_batch_of_confidential_requests_alone_is_over_for_the_policy(continuous: bool) -> None:
    one = policy(until(4.0), {0, 1})
    device = Device(0, 100, MODELS, continuous=continuous)
    loaded(one, device, 2)
    assert isinstance(one.next(device, 5.0), Shed)
    assert isinstance(one.next(device, 5.0), Wait)
    assert one.num_waiting == 0
    one.add(Queued(2, 0, 6.0), 6.0)
    assert one.next(device, 6.0) == Batch(0, (Queued(2, 0, 6.0),))


@pytest.mark.parametrize("end_s", [5.5, np.inf])
def test_while_attested_nothing_changes(end_s: float) -> None:
    one = policy(until(end_s), {0, 1})
    device = Device(0, 100, MODELS)
    loaded(one, device, 2)
    batch = one.next(device, 5.0)
    assert isinstance(batch, Batch)
    assert len(batch.requests) == 2
    assert not one.refused
