"""Residents that run out for another model, and how devices share who waits."""

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.drains import Drains, share
from penstock.policy.multiplex.evict import crowded, least_recent, leavers, victims
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Load, Queued

MODELS = [HostedModel(f"m{one}", 10, BatchTime(1.0, 0.1), request_bytes=2, max_batch=4)
          for one in range(3)]


def holding(running: dict[int, int], memory_bytes: int = 40, index: int = 0) -> Device:
    """A device whose residents run so many requests; they were used in this order."""
    device = Device(index, memory_bytes, MODELS, continuous=True)
    for at_s, (model, num) in enumerate(running.items()):
        device.begin_load(Load(model))
        device.end_load(float(at_s), loaded=True)
        if num:
            device.begin_batch(Batch(model, tuple(Queued(one, model, 0.0) for one in range(num))))
    return device


def test_a_drain_stands_until_its_model_is_resident_or_nobody_waits() -> None:
    drains, device = Drains(), holding({0: 1})
    drains.begin(device, 1, (0,))
    drains.review(device, [0, 1])
    assert (drains.target(device), drains.leaving(device)) == (1, {0})
    assert not drains.takes(device, 0)
    drains.review(device, [0])
    assert drains.target(device) is None
    assert drains.takes(device, 0)
    drains.begin(device, 1, (0,))
    drains.review(holding({1: 0}), [1])
    assert not drains.leaving(device)


def test_devices_do_not_share_a_drain() -> None:
    drains = Drains()
    drains.begin(holding({0: 1}), 1, (0,))
    assert drains.takes(holding({0: 1}, index=1), 0)


def test_requests_are_spread_such_that_all_run_alike_many() -> None:
    devices = [holding({0: 3}), holding({0: 1}, index=1), holding({1: 0}, index=2)]
    drains = Drains()
    assert [share(one, 0, 4, devices, drains.takes) for one in devices[:2]] == [1, 3]
    assert share(devices[0], 0, 1, devices, drains.takes) == 0
    drains.begin(devices[1], 2, (0,))
    assert share(devices[0], 0, 1, devices, drains.takes) == 1


def test_who_runs_nothing_leaves_first_and_nobody_without_need() -> None:
    device = holding({0: 1, 1: 0}, memory_bytes=24)
    assert victims(device, 2, 9.0, least_recent) == (1,)
    assert leavers(device, 2, 9.0, least_recent) == (1,)
    assert victims(device, 2, 9.0, least_recent, spare=10) is None
    assert leavers(device, 2, 9.0, least_recent, spare=10) == (1, 0)
    assert leavers(device, 2, 9.0, least_recent, spare=15) is None


def test_what_the_requests_of_a_leaver_hold_is_freed_with_it() -> None:
    device = holding({0: 3}, memory_bytes=18)
    assert device.free_bytes == 2
    assert leavers(device, 1, 9.0, least_recent, spare=8) == (0,)


def test_a_resident_without_memory_for_a_request_sends_another_away() -> None:
    crowd = holding({0: 0, 1: 0}, memory_bytes=21)
    assert crowded(crowd, 0, 9.0, least_recent) == 1
    assert crowded(holding({0: 0, 1: 0}), 0, 9.0, least_recent) is None
    busy = holding({0: 0, 1: 1}, memory_bytes=23)
    assert crowded(busy, 0, 9.0, least_recent) is None  # it has to wait for what runs
