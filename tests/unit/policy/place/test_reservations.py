"""Memory is held whole or not at all, and comes back."""

import asyncio
from dataclasses import replace

import pytest

from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.reservations import Holding, Reservations
from penstock.policy.place.values import Device, Infeasible, Placement, Stage
from support.small_placements import footprint, node


def laid(*layers: int, devices: tuple[int, ...], model: str = "m") -> Placement:
    return Placement(footprint(sum(layers), 1, len(layers), model=model), tuple(
        Stage(count, (device,)) for count, device in zip(layers, devices, strict=True)))


def refused(found: Holding | Infeasible) -> str:
    assert isinstance(found, Infeasible)
    return found.reason


def test_all_or_nothing() -> None:
    held = Reservations(node(10, 5))
    assert refused(held.reserve("a", laid(4, 6, devices=(0, 1)))) == (
        "a: device 1 has 5 bytes free, 6 bytes are needed")
    assert [held.held_bytes(device) for device in (0, 1)] == [0, 0]
    assert held.holdings() == []
    assert isinstance(held.reserve("a", laid(6, 4, devices=(0, 1))), Holding)
    assert [device.free_bytes for device in held.devices()] == [4, 1]
    held.check_integrity()


def test_of_two_deployments_placed_at_once_one_is_refused() -> None:
    held, placer = Reservations(node(10, 10)), PenstockPlacer()
    one, other = (placer.place(footprint(8, model=name), held.devices()) for name in "ab")
    assert isinstance(one, Placement)
    assert isinstance(other, Placement)
    assert isinstance(held.reserve("a", one), Holding)
    assert "device 0 has 2 bytes free, 8 bytes are needed" in refused(held.reserve("b", other))
    again = placer.place(footprint(8, model="b"), held.devices())
    assert isinstance(again, Placement)
    assert isinstance(held.reserve("b", again), Holding)


def test_many_deployments_at_once_never_hold_more_than_there_is() -> None:
    held, placer = Reservations(node(*[20] * 8)), PenstockPlacer()
    refusals = 0

    async def deploy(name: str, layers: int, tensor: int) -> str:
        nonlocal refusals
        while True:
            found = placer.place(footprint(layers, tensor, model=name), held.devices())
            if isinstance(found, Infeasible):
                return "no room"
            await asyncio.sleep(0)  # the others place on the same memory
            if isinstance(held.reserve(name, found), Holding):
                break
            refusals += 1
        await asyncio.sleep(0)  # the engine starts, or does not
        if layers % 3 == 0:
            held.release(name)
            return "failed"
        assert held.commit(name)
        return "runs"

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(deploy(f"m{n}", 5 + n % 5, 1 + n % 2) for n in range(30)))

    ends = asyncio.run(all_at_once())
    assert set(ends) == {"no room", "failed", "runs"}
    assert refusals > 0
    held.check_integrity()
    assert len(held.holdings()) == ends.count("runs")
    assert all(0 <= held.held_bytes(device) <= 20 for device in range(8))


def test_a_name_holds_once() -> None:
    held = Reservations(node(10))
    held.reserve("a", laid(1, devices=(0,)))
    assert refused(held.reserve("a", laid(1, devices=(0,)))) == (
        "a holds memory already, release it first")
    assert held.release("a")
    assert not held.release("a")
    assert held.held_bytes(0) == 0


def test_a_reservation_ends_unless_it_is_committed_in_time() -> None:
    held = Reservations(node(10))
    held.reserve("slow", laid(2, devices=(0,)), expires_s=30.0)
    held.reserve("fast", laid(3, devices=(0,)), expires_s=30.0)
    assert held.commit("fast")
    assert held.expire(29.9) == []
    assert held.expire(30.0) == ["slow"]
    assert not held.commit("slow")
    assert held.expire(1e9) == []
    assert [(each.name, each.committed) for each in held.holdings()] == [("fast", True)]
    assert held.held_bytes(0) == 3


def test_a_device_that_fails_takes_its_deployments_with_it() -> None:
    held = Reservations(node(10, 10, 10))
    held.reserve("a", laid(3, 3, devices=(0, 1)))
    held.reserve("b", laid(3, devices=(2,)))
    held.commit("a")
    assert held.fail(1) == ["a"]
    assert [device.device_id for device in held.devices()] == [0, 2]
    assert [held.held_bytes(device) for device in (0, 1, 2)] == [0, 0, 3]
    assert refused(held.reserve("c", laid(2, devices=(1,)))) == "c: device 1 has failed"
    held.observe(Device(1, "a", 10))
    assert isinstance(held.reserve("c", laid(2, devices=(1,))), Holding)
    assert refused(held.reserve("d", laid(2, devices=(9,)))) == "d: device 9 is unknown"
    held.check_integrity()


def test_the_buffer_is_not_reserved() -> None:
    held = Reservations([Device(0, "a", 100, buffer_share=0.2)])
    assert "80 bytes free" in refused(held.reserve("a", laid(81, devices=(0,))))
    assert isinstance(held.reserve("a", laid(80, devices=(0,))), Holding)


@pytest.mark.parametrize(("held_bytes", "before", "reading", "free"), [
    (0, 10, 4, 96),     # nothing of ours is there: what is read
    (30, 10, 10, 60),   # not loaded yet: others still have their 10
    (30, 10, 40, 60),   # loaded
    (30, 10, 25, 60),   # loaded in part: not taken for less
    (30, 10, 55, 45),   # others have grown to 25
])
def test_what_a_monitor_reads_is_ours_and_that_of_others(held_bytes: int, before: int, reading: int,
                                                         free: int) -> None:
    held = Reservations([Device(0, "a", 100, before)])
    if held_bytes:
        held.reserve("a", laid(held_bytes, devices=(0,)))
    held.observe(Device(0, "a", 100, reading, busy_share=0.5))
    assert held.devices() == [Device(0, "a", 100, 100 - free, busy_share=0.5)]


def test_a_device_may_join() -> None:
    held = Reservations([])
    held.observe(replace(node(10)[0], device_id=7))
    assert isinstance(held.reserve("a", laid(10, devices=(7,))), Holding)
    held.check_integrity()


def test_holdings_survive_a_restart() -> None:
    before = Reservations(node(10, 10))
    before.reserve("a", laid(3, 3, devices=(0, 1)))
    before.commit("a")
    after = Reservations(node(10, 10), before.holdings())
    after.check_integrity()
    assert after.devices() == before.devices()
    assert after.holdings() == before.holdings()


def test_a_wrong_sum_is_noticed() -> None:
    held = Reservations(node(10))
    held.reserve("a", laid(3, devices=(0,)))
    held._held[0] = 1
    with pytest.raises(AssertionError):
        held.check_integrity()
