"""Laws of placement: memory, layers and groups of every placer, and what exact may never miss."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.plan.place.exact import ExactPlan, place_exact, quick
from penstock.plan.place.objective import objective
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.defragment import Defragmenter, Deployed, Migration, MoveRates
from penstock.policy.place.layers import spread
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.protocol import Placer
from penstock.policy.place.reservations import Holding, Reservations
from penstock.policy.place.score import score
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement, by_id, faults
from penstock.published.maveriq.placer import MaveriqPlacer
from support.scaled_examples import examples
from support.small_placements import best_by_trying_all
from support.strategies import footprints, fragmented_devices

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


@examples(300)
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


@examples(200)
@given(footprints(), fragmented_devices())
def test_exact_is_never_worse_than_a_heuristic(wanted: Footprint, devices: list[Device]) -> None:
    known = by_id(devices)
    exact = place_exact([wanted], devices)
    if isinstance(exact, ExactPlan):
        assert exact.proven
        assert faults(exact.placements[0], known) == []
        again = place_exact([wanted], devices[::-1])
        assert isinstance(again, ExactPlan)
        assert again.placements == exact.placements
    for placer in HEURISTICS:
        found = placer.place(wanted, devices)
        if isinstance(found, Placement):
            assert isinstance(exact, ExactPlan)
            assert score(exact.placements[0], known) <= score(found, known)


@examples(150)
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


@examples(60)
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


@examples(200)
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


class Deploying(RuleBasedStateMachine):
    """Deployments that overlap in any way: placed on what was free a while ago, reserved,
    committed, released, expired, and devices that fail and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.capacity = {device.device_id: device for device in PLACED_ON}
        self.held = Reservations(PLACED_ON)
        self.model: dict[str, Holding] = {}
        self.waiting: list[Placement] = []
        self.now_s, self.count = 0.0, 0

    @rule(wanted=footprints(max_layers=9, max_tensor=2, max_pipeline=2))
    def place(self, wanted: Footprint) -> None:
        found = PenstockPlacer().place(wanted, self.held.devices())
        if isinstance(found, Placement):
            self.waiting.append(found)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99), lasts_s=st.sampled_from((1.0, 5.0, inf)), again=st.booleans())
    def reserve(self, which: int, lasts_s: float, again: bool) -> None:
        placement = self.waiting[which % len(self.waiting)]
        if not again:
            self.waiting.remove(placement)
        before = {device: self.held.held_bytes(device) for device in self.capacity}
        name = f"d{self.count}"
        self.count += 1
        free = {device.device_id: device.free_bytes for device in self.held.devices()}
        fits = all(held <= free.get(device, -1)
                   for device, held in placement.bytes_by_device.items())
        found = self.held.reserve(name, placement, self.now_s + lasts_s)
        assert isinstance(found, Holding) == fits
        if isinstance(found, Holding):
            self.model[name] = found
        else:
            assert before == {device: self.held.held_bytes(device) for device in self.capacity}

    @rule(which=st.integers(0, 30))
    def commit(self, which: int) -> None:
        name = f"d{which}"
        assert self.held.commit(name) == (name in self.model)
        if name in self.model:
            self.model[name] = replace(self.model[name], committed=True, expires_s=inf)

    @rule(which=st.integers(0, 30))
    def release(self, which: int) -> None:
        name = f"d{which}"
        assert self.held.release(name) == (self.model.pop(name, None) is not None)

    @rule(later_s=st.sampled_from((0.5, 3.0)))
    def time_passes(self, later_s: float) -> None:
        self.now_s += later_s
        over = sorted(n for n, each in self.model.items() if each.expires_s <= self.now_s)
        assert self.held.expire(self.now_s) == over
        for name in over:
            del self.model[name]

    @rule(which=st.integers(0, 3))
    def a_device_fails(self, which: int) -> None:
        gone = sorted(n for n, each in self.model.items() if which in each.placement.device_ids)
        assert self.held.fail(which) == gone
        for name in gone:
            del self.model[name]

    @rule(which=st.integers(0, 3))
    def a_device_is_back(self, which: int) -> None:
        self.held.observe(replace(self.capacity[which],
                                  used_bytes=2 + self.held.held_bytes(which)))

    @invariant()
    def memory_is_conserved(self) -> None:
        self.held.check_integrity()
        assert self.held.holdings() == [self.model[name] for name in sorted(self.model)]
        for device_id, device in self.capacity.items():
            total = sum(each.placement.bytes_by_device.get(device_id, 0)
                        for each in self.model.values())
            assert self.held.held_bytes(device_id) == total
            assert total <= device.free_bytes


PLACED_ON = [Device(0, "a", 12, 2, link_group="x"), Device(1, "a", 12, 2, link_group="x"),
             Device(2, "a", 22, 2, buffer_share=0.25), Device(3, "a", 7, 2)]
TestDeploying = Deploying.TestCase
TestDeploying.settings = examples(80, stateful_step_count=40)


@examples(80)
@given(st.lists(footprints(max_layers=6, max_tensor=2, max_pipeline=2), max_size=4),
       footprints(max_layers=12, max_tensor=2, max_pipeline=2), fragmented_devices(most_free=14))
def test_moves_end_in_a_state_that_fits(running: list[Footprint], newcomer: Footprint,
                                        devices: list[Device]) -> None:
    placer, deployed = PenstockPlacer(), []
    for index, wanted in enumerate(running):
        found = BalancedPlacer().place(wanted, devices)
        if isinstance(found, Placement):
            deployed.append(Deployed(f"d{index}", found))
            devices = beside(devices, [found])
    direct = placer.place(newcomer, devices)
    found = Defragmenter(placer, MoveRates(10.0, 1.0)).make_room(newcomer, devices, deployed)
    assert isinstance(direct, Infeasible) or isinstance(found, Migration)
    if isinstance(found, Infeasible):
        return
    before = {each.name: each.placement for each in deployed}
    assert all(move.before == before[move.name] for move in found.moves)
    left = by_id(devices)
    for move in found.moves if found.in_turn else ():
        left = lifted(left, move.before)
        assert faults(move.after, left) == []
        left = by_id(beside(list(left.values()), [move.after]))
    if not found.in_turn:
        for move in found.moves:
            left = lifted(left, move.before)
        left = by_id(beside(list(left.values()), [move.after for move in found.moves]))
    assert faults(found.placement, left) == []
    assert all(device.used_bytes <= device.total_bytes for device in left.values())


def lifted(devices: dict[int, Device], placement: Placement) -> dict[int, Device]:
    return {key: replace(device, used_bytes=device.used_bytes
                         - placement.bytes_by_device.get(key, 0))
            for key, device in devices.items()}
