"""Groups of devices as AlpaServe finds them, judged by a small queue."""

from collections.abc import Sequence

import pytest

from penstock.core.errors import InputError
from penstock.plan.place.groups import DeviceGroup, Footprints, place_groups
from penstock.policy.place.values import Footprint, by_id, faults
from support.small_placements import node


def model(name: str, layers: int, most: int = 4, layer_bytes: int = 12) -> Footprints:
    """A model in every configuration of up to so many devices; bytes divide by tensor parallelism.
    """
    return {(tensor, pipeline): Footprint(name, layers, tensor, pipeline, layer_bytes // tensor)
            for tensor in (1, 2, 4) for pipeline in (1, 2, 4) if tensor * pipeline <= most}


def queue_judge(arrivals: Sequence[tuple[float, str]], limit_s: float):
    """Attainment of one request at a time per group, first come first served, the least waiting
    group of those that hold the model. A request takes 1 s by tensor parallelism."""

    def judge(groups: Sequence[DeviceGroup]) -> float:
        free_s, kept = [0.0] * len(groups), 0
        for arrival_s, name in arrivals:
            able = [index for index, group in enumerate(groups) if name in group.models]
            if able:
                index = min(able, key=lambda i: (free_s[i], i))
                free_s[index] = max(free_s[index], arrival_s) + 1.0 / groups[index].tensor
                kept += free_s[index] - arrival_s <= limit_s
        return kept / len(arrivals)

    return judge


BURSTS = [(0.0, "a")] * 4 + [(10.0, "b")] * 4


def test_bursts_are_better_served_by_both_devices_together() -> None:
    models = {"a": model("a", 5), "b": model("b", 5)}
    devices = node(60, 60)
    # A device holds one of them, and alone has half of a burst of four late.
    judge = queue_judge(BURSTS, 2.0)
    apart = place_groups(models, devices, judge, sizes=[1])
    assert (apart.attainment, apart.complete) == (0.5, True)
    found = place_groups(models, devices, judge)
    assert found.attainment == 1.0
    group, = found.groups
    assert (group.tensor, group.pipeline, sorted(group.models)) == (2, 1, ["a", "b"])
    assert found.served == ("a", "b")
    assert found.complete


def test_memory_is_kept() -> None:
    models = {name: model(name, 5) for name in "abc"}
    found = place_groups(models, node(60, 70, 130, 60), queue_judge(BURSTS, 0.1))
    devices = by_id(node(60, 70, 130, 60))
    for group in found.groups:
        total = dict.fromkeys(group.device_ids, 0)
        for placement in group.placements:
            assert set(placement.device_ids) == set(group.device_ids)
            assert faults(placement, devices) == []
            for device, held in placement.bytes_by_device.items():
                total[device] += held
        assert all(held <= devices[device].free_bytes for device, held in total.items())


def test_replicas_are_added_where_they_help_most() -> None:
    models = {"busy": model("busy", 5, 1), "rare": model("rare", 5, 1)}
    arrivals = [(0.0, "busy")] * 3 + [(5.0, "rare")]
    found = place_groups(models, node(60, 60, 60, 60), queue_judge(arrivals, 1.0), sizes=[1])
    assert sorted(group.models for group in found.groups) == [
        ("busy",), ("busy",), ("busy",), ("rare",)]
    assert found.attainment == 1.0


def test_what_does_not_pay_is_dropped() -> None:
    models = {"small": model("small", 5, 1), "large": model("large", 10, 2)}
    arrivals = [(float(second), "small") for second in range(9)] + [(20.0, "large")]
    found = place_groups(models, node(60, 60), queue_judge(arrivals, 1.0))
    assert found.served == ("small",)
    assert found.attainment == 0.9


def test_a_beam_keeps_what_only_pays_later() -> None:
    # First alone best: a. But a leaves no room for b and c, which are better together.
    models = {"a": model("a", 10, 1), "b": model("b", 5, 1), "c": model("c", 5, 1)}
    arrivals = [(0.0, "a"), (10.0, "a"), (20.0, "a"), (0.5, "b"), (10.0, "b"), (1.0, "c"),
                (11.0, "c")]
    judge = queue_judge(sorted(arrivals), 3.0)
    greedy = place_groups(models, node(120), judge)
    assert greedy.served == ("a",)
    wide = place_groups(models, node(120), judge, beam=3)
    assert wide.served == ("b", "c")
    assert wide.attainment > greedy.attainment


def test_groups_alike_are_judged_once() -> None:
    seen = []

    def judge(groups: Sequence[DeviceGroup]) -> float:
        seen.append([group.models for group in groups])
        return 0.0

    found = place_groups({"a": model("a", 5, 1)}, node(60, 60, 60), judge)
    assert seen == [[("a",), (), ()], [("a",), ("a",), ()], [("a",), ("a",), ("a",)]]
    assert found.num_judged == 3
    short = place_groups({"a": model("a", 5, 1)}, node(60, 60, 60), judge, max_judged=2)
    assert (short.num_judged, short.complete) == (2, False)


def test_devices_left_over_serve_nothing() -> None:
    found = place_groups({"a": model("a", 4)}, node(*[60] * 5), lambda groups: 0.5, sizes=[2])
    assert [group.device_ids for group in found.groups] == [(0, 1), (2, 3)]


def test_nothing_fits() -> None:
    found = place_groups({"a": model("a", 50)}, node(60, 60), lambda groups: 1.0)
    assert (found.groups, found.attainment, found.served) == ((), 0.0, ())


@pytest.mark.parametrize(("options", "message"), [
    ({"beam": 0}, "beam is 0, expected at least 1"),
    ({"sizes": [3]}, "sizes: 3 is not between 1 and the 2 devices"),
])
def test_bad_settings_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        place_groups({"a": model("a", 5)}, node(60, 60), lambda groups: 1.0, **options)
    wrong = {"a": {(1, 1): Footprint("a", 4, 2, 1, 1)}}
    with pytest.raises(InputError, match=r"footprint of 'a' at \(1, 1\): it is of 'a' at \(2, 1\)"):
        place_groups(wrong, node(60, 60), lambda groups: 1.0)
