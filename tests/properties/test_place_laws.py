"""Laws of placement: memory, layers and groups of every placer, and what exact may never miss."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.plan.place.exact import ExactPlan, place_exact, quick
from penstock.plan.place.objective import objective
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.layers import spread
from penstock.policy.place.maveriq import MaveriqPlacer
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.protocol import Placer
from penstock.policy.place.score import score
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement, by_id, faults
from placing import best_by_trying_all
from strategies import footprints, fragmented_devices

HEURISTICS: tuple[Placer, ...] = (
    PenstockPlacer(), BalancedPlacer(), MaveriqPlacer("none"),
    MaveriqPlacer("llf"), MaveriqPlacer("packing"), MaveriqPlacer("hybrid"),
    MaveriqPlacer("llf", as_published=True), MaveriqPlacer("hybrid", 0.5, as_published=True))


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 40))
def test_layers_are_spread_whole_and_evenly(rooms: list[int], num_layers: int) -> None:
    layers = spread(num_layers, rooms)
    fits = bool(rooms) and min(rooms) > 0 and len(rooms) <= num_layers <= sum(rooms)
    assert (layers is not None) == fits
    if layers is None:
        return
    assert sum(layers) == num_layers
    assert all(1 <= count <= most for count, most in zip(layers, rooms, strict=True))
    largest = max(layers)
    # One layer less at most would not hold them, and who has fewer by two has no room for more.
    assert sum(min(most, largest - 1) for most in rooms) < num_layers
    assert all(count >= largest - 1 or count == most
               for count, most in zip(layers, rooms, strict=True))


@settings(max_examples=300)
@given(footprints(), fragmented_devices(), st.sampled_from(HEURISTICS), st.randoms())
def test_every_placement_is_sound_and_independent_of_order(
        wanted: Footprint, devices: list[Device], placer: Placer,
        random: Random) -> None:
    found = placer.place(wanted, devices)
    if isinstance(found, Infeasible):
        assert found.reason.startswith(wanted.model)
        assert 0 <= found.max_layers <= wanted.num_layers
    else:
        assert faults(found, by_id(devices)) == []
        assert sum(found.bytes_by_device.values()) == wanted.total_bytes
    shuffled = list(devices)
    random.shuffle(shuffled)
    assert placer.place(wanted, shuffled) == found


@settings(max_examples=200)
@given(footprints(), fragmented_devices())
def test_exact_is_never_worse_than_a_heuristic(wanted: Footprint, devices: list[Device]) -> None:
    known = by_id(devices)
    exact = place_exact([wanted], devices)
    if isinstance(exact, ExactPlan):
        assert exact.proven
        assert faults(exact.placements[0], known) == []
    for placer in HEURISTICS:
        found = placer.place(wanted, devices)
        if isinstance(found, Placement):
            assert isinstance(exact, ExactPlan)
            assert score(exact.placements[0], known) <= score(found, known)


@settings(max_examples=150)
@given(footprints(), fragmented_devices(max_per_node=3))
def test_exact_finds_what_trying_everything_finds(wanted: Footprint,
                                                  devices: list[Device]) -> None:
    best = best_by_trying_all(wanted, devices)
    exact = place_exact([wanted], devices)
    if best is None:
        assert isinstance(exact, Infeasible)
    else:
        assert isinstance(exact, ExactPlan)
        assert score(exact.placements[0], by_id(devices)) == best


def beside(devices: Sequence[Device], placements: Sequence[Placement]) -> list[Device]:
    taken = {device.device_id: 0 for device in devices}
    for placement in placements:
        for device, held in placement.bytes_by_device.items():
            taken[device] += held
    return [replace(device, used_bytes=device.used_bytes + taken[device.device_id])
            for device in devices]


@settings(max_examples=60)
@given(st.lists(footprints(max_layers=9, max_tensor=2, max_pipeline=2), min_size=2, max_size=3),
       fragmented_devices(max_nodes=1))
def test_together_is_never_worse_than_one_after_another(wanted: list[Footprint],
                                                        devices: list[Device]) -> None:
    exact = place_exact(wanted, devices)
    one_by_one = quick(wanted, devices)
    if isinstance(exact, Infeasible):
        assert one_by_one is None
        return
    assert exact.proven
    for index, placement in enumerate(exact.placements):
        others = [*exact.placements[:index], *exact.placements[index + 1:]]
        assert placement.footprint == wanted[index]
        assert faults(placement, by_id(beside(devices, others))) == []
    if one_by_one is not None:
        assert objective(exact.placements, by_id(devices)) <= objective(one_by_one, by_id(devices))


@settings(max_examples=200)
@given(footprints(), fragmented_devices())
def test_without_extras_the_quick_placer_finds_a_placement_if_there_is_one(
        wanted: Footprint, devices: list[Device]) -> None:
    plain = replace(wanted, first_bytes=0, last_bytes=0)
    exact = place_exact([plain], devices)
    assert isinstance(PenstockPlacer().place(plain, devices), Placement) == isinstance(
        exact, ExactPlan)


@given(footprints(), fragmented_devices(), st.integers(1, 5))
def test_more_free_memory_never_makes_it_impossible(wanted: Footprint, devices: list[Device],
                                                    more: int) -> None:
    plain = replace(wanted, first_bytes=0, last_bytes=0)
    assume(isinstance(PenstockPlacer().place(plain, devices), Placement))
    roomier = [replace(device, total_bytes=device.total_bytes + 2 * more) for device in devices]
    assert isinstance(PenstockPlacer().place(plain, roomier), Placement)
