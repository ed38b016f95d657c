"""penstock place: several models on one node, ours beside AlpaServe's groups."""

import pytest

from penstock.core.units import GIB
from support.fingerprint_world import cuts_of, whole_runs, write

SMALL, LARGE = "llama-2-7b", "llama-2-70b"


@pytest.fixture
def data(folder):
    """A folder laid out as MaverIQ's."""
    found = folder / "data"
    found.mkdir()
    write(found / "full_model_data_collection.csv", whole_runs())
    write(found / "fingerprint_data_collection.csv", cuts_of())
    return found


def placed(penstock, data, *arguments):
    found = penstock("lab", "place", *arguments, "--train", data, "--json")
    assert found.status == 0, found.err
    return found.json


def test_both_strategies_answer_on_the_same_arrivals(penstock, data):
    document = placed(penstock, data, f"{SMALL}=2", f"{LARGE}=0.2", "--requests", 100)
    assert [one["model"] for one in document["models"]] == [SMALL, LARGE]
    assert [one["strategy"] for one in document["plans"]] == ["penstock", "alpaserve"]
    for plan in document["plans"]:
        assert 0.0 < plan["in_time"] <= plan["answered"] <= 1.0
        assert plan["num_simulated"] > 0
        held = dict.fromkeys(range(8), 0)
        for seat in plan["seats"]:
            for devices in seat.get("device_sets", ()):
                assert len(devices) == seat["tensor"] * seat["pipeline"]
                for device in devices:
                    held[device] += seat["device_bytes"]
        assert 0 < max(held.values()) <= 48 * GIB
    ours, groups = document["plans"]
    assert ours["mean_s"] < groups["mean_s"], "ours makes the mean small"
    again = placed(penstock, data, f"{SMALL}=2", f"{LARGE}=0.2", "--requests", 100)
    assert again == document


def test_the_group_baseline_leaves_out_who_does_not_pay(penstock, data):
    """On two devices of which most is in use there is room for one of the two."""
    document = placed(penstock, data, f"{SMALL}=0.5", f"{LARGE}=0.1", "--accelerators", 2,
                      "--used-gib", "30,30", "--precisions", "int4", "--strategies", "alpaserve",
                      "--requests", 60)
    small, large = document["plans"][0]["seats"]
    assert (small["left_out"], large["left_out"]) == (False, True)
    assert document["plans"][0]["answered"] < 1.0


def test_without_room_it_says_so(penstock, data):
    found = penstock("lab", "place", f"{LARGE}=1", "--train", data, "--accelerators", 2,
                     "--used-gib",
                     "40,40", "--requests", 20)
    assert found.status == 1
    assert "no configurations found that fit" in " ".join(found.out.split())


def test_a_gpu_second_that_is_worth_more_makes_a_thriftier_plan(penstock, data):
    quick, thrifty = (placed(penstock, data, f"{SMALL}=0.1", "--strategies", "penstock",
                             "--requests", 40, "--gpu-second", worth)["plans"][0]
                      for worth in (0, 100))
    assert thrifty["gpu_s"] < quick["gpu_s"]
    assert thrifty["mean_s"] > quick["mean_s"]


@pytest.mark.parametrize(("arguments", "message"), [
    ((SMALL,), "expected MODEL=RATE"),
    ((f"{SMALL}=0",), "expected MODEL=RATE"),
    ((f"{SMALL}=nan",), "expected MODEL=RATE"),
    (("lama-2-7b=1",), "did you mean 'llama-2-7b'?"),
    ((f"{SMALL}=1", "llama-3-8b=1"), "llama-3-8b"),
    ((f"{SMALL}=1", "--strategies", "alpserve"), "did you mean 'alpaserve'?"),
    ((f"{SMALL}=1", "--precisions", "int5"), "'int5' is unknown"),
    ((f"{SMALL}=1", "--slo", "-1"), "'--slo': expected more than 0, found -1"),
    ((f"{SMALL}=1", "--gpu-second", "inf"), "--gpu-second"),
    ((f"{SMALL}=1", "--used-gib", "1"), "expected 8 numbers"),
])
def test_what_means_nothing_is_refused_in_one_line(penstock, data, arguments, message):
    found = penstock("lab", "place", *arguments, "--train", data)
    assert found.status == 2
    assert message in found.err
    assert len(found.err.strip().splitlines()) == 1
