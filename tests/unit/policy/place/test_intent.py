"""Choosing by intent: the least of what is allowed, every other with its reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.prediction import Prediction
from penstock.policy.place.beside import Neighbour, Traffic
from penstock.policy.place.intent import (
    OBJECTIVES,
    Candidate,
    Criteria,
    choose,
    pareto,
)


def about(value: float, spread: float = 1.1) -> Prediction:
    return Prediction(value, value / spread, value * spread, 0.9, "test")


def candidate(latency_s: float, gib: float, tensor: int = 1, pipeline: int = 1,
              precision: str = "fp16", **more: object) -> Candidate:
    return Candidate(Configuration(Parallelism(tensor, pipeline), precision, "fp16"),
                     about(latency_s), about(gib * 2**30), **more)  # type: ignore[arg-type]


FAST = candidate(1.0, 60.0, tensor=8, price_per_hour=8.0, power_w=2400.0)
SMALL = candidate(4.0, 10.0, price_per_hour=1.0, power_w=300.0)
MIDDLE = candidate(1.8, 20.0, tensor=2, price_per_hour=2.0, power_w=700.0)


@pytest.mark.parametrize(("intent", "best"), [
    ("min_lat", FAST), ("min_mem", SMALL), ("min_cost", MIDDLE), ("min_gpu_cost", MIDDLE),
    ("money", MIDDLE), ("energy", SMALL)])
def test_every_intent_has_its_best(intent: str, best: Candidate) -> None:
    found = choose([SMALL, FAST, MIDDLE], Criteria(intent))
    assert found.chosen is not None
    assert found.chosen.candidate is best
    assert len(found.alternatives) == 2
    assert found.reason == ""


def test_an_unknown_intent_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'min_latency'.*min_lat"):
        choose([FAST], Criteria("min_latency"))


@pytest.mark.parametrize(("criteria", "reason"), [
    (Criteria(precisions=frozenset({"int8"})), "precision not allowed: fp16"),
    (Criteria(most_accelerators=4), "too many accelerators: 8 of 4"),
    (Criteria(least_accuracy=99.0), "accuracy unknown: no entry for fp16, fp16 cache"),
    (Criteria(slo_s=0.5), "too slow: 1.1 s of 0.5 s"),
    (Criteria(slo_s=1.05), "too slow: 1.1 s of 1.05 s"),
    (Criteria(own_rate_per_s=1.0), "overloaded: its devices would be busy all of the time"),
    (Criteria(others=(Traffic(0.5, 2.0),)),
     "overloaded: its devices would be busy all of the time"),
])
def test_what_is_not_allowed_is_rejected_with_the_reason(criteria: Criteria, reason: str) -> None:
    found = choose([FAST], criteria)
    assert found.chosen is None
    assert found.rejected == ((FAST, reason),)
    assert found.reason.startswith("none of 1 configurations will do: 1 ")


def test_accuracy_below_the_floor() -> None:
    poor = candidate(1.0, 1.0, precision="int4", accuracy=87.1)
    found = choose([poor, candidate(2.0, 1.0, accuracy=100.0)], Criteria(least_accuracy=95.0))
    assert found.rejected == ((poor, "not accurate enough: 87.1 of 95"),)
    assert found.chosen is not None
    assert found.chosen.candidate.accuracy == 100.0


def test_a_missed_slo_names_the_nearest_and_never_takes_it() -> None:
    found = choose([SMALL, FAST, MIDDLE], Criteria("min_mem", slo_s=0.9))
    assert found.chosen is None
    assert found.nearest is not None
    assert found.nearest.candidate is FAST
    assert found.reason == ("none of 3 configurations will do: 3 too slow; the closest is tp8 pp1 "
                            "fp16 kv fp16 with 1 s, 1.1 s at most")


def test_the_nearest_is_so_by_what_must_keep_the_slo() -> None:
    known = candidate(1.3, 20.0, tensor=2)
    guessed = replace(candidate(1.0, 20.0, tensor=4), latency_s=about(1.0, 2.0))
    nearest = {sure: choose([guessed, known], Criteria(slo_s=0.9, sure=sure)).nearest
               for sure in (True, False)}
    assert nearest[True] is not None
    assert nearest[True].candidate is known
    assert nearest[False] is not None
    assert nearest[False].candidate is guessed


def test_the_point_or_the_high_end_must_keep_the_slo() -> None:
    assert choose([FAST], Criteria(slo_s=1.0)).chosen is None
    assert choose([FAST], Criteria(slo_s=1.0, sure=False)).chosen is not None
    assert choose([FAST], Criteria(slo_s=1.0, sure=False, strict_slo=True)).chosen is None


def test_what_cannot_be_had_keeps_its_reason() -> None:
    gone = candidate(0.1, 1.0, refused="no room: 3 GiB are short")
    found = choose([gone, SMALL], Criteria("min_lat"))
    assert found.rejected == ((gone, "no room: 3 GiB are short"),)


def test_no_candidates_is_said() -> None:
    assert choose([], Criteria()).reason == "there is no configuration to choose from"


def test_waiting_counts_and_may_change_the_choice() -> None:
    slow, quick = candidate(1.0, 1.0), candidate(0.5, 3.0, tensor=2)
    calm, busy = Criteria("min_cost"), Criteria("min_cost", own_rate_per_s=0.9)
    first, second = choose([slow, quick], calm).chosen, choose([slow, quick], busy).chosen
    assert first is not None
    assert first.candidate is slow
    assert second is not None
    assert second.candidate is quick, "at 0.9 a second the slow one would wait 4.5 s"


def test_each_candidate_waits_for_those_on_its_own_devices() -> None:
    """The quick one shares its devices, the slow one has its own."""
    busy = Neighbour("chat", frozenset({0}), Traffic(0.5, 1.0))
    quick = replace(candidate(1.0, 10.0), beside=(busy, Neighbour("silent", frozenset({0}))))
    slow = candidate(1.4, 10.0, tensor=2)
    alone = choose([replace(quick, beside=()), slow], Criteria("min_lat")).chosen
    beside = choose([quick, slow], Criteria("min_lat")).chosen
    assert alone is not None
    assert beside is not None
    assert alone.candidate.configuration == quick.configuration
    assert beside.candidate is slow, "0.5 s are waited for chat"
    full = choose([replace(quick, beside=(replace(busy, traffic=Traffic(1.0, 1.0)),))],
                  Criteria("min_lat"))
    assert full.rejected[0][1] == (
        "overloaded: its devices would be busy all of the time with chat there")


candidates = st.lists(st.builds(
    candidate, st.floats(0.1, 10.0), st.floats(1.0, 100.0), tensor=st.sampled_from([1, 2, 4]),
    pipeline=st.integers(1, 4), precision=st.sampled_from(["fp16", "int8", "int4"]),
    accuracy=st.sampled_from([None, 90.0, 99.0]), price_per_hour=st.floats(0.5, 20.0)),
    max_size=8, unique_by=lambda one: one.configuration)


@given(candidates, st.sampled_from(sorted(OBJECTIVES)), st.sampled_from([None, 0.5, 5.0]),
       st.sampled_from([None, 95.0]), st.floats(0.0, 0.5))
def test_every_candidate_is_chosen_listed_or_rejected(found: list[Candidate], intent: str,
                                                      slo_s: float | None, floor: float | None,
                                                      rate: float) -> None:
    choice = choose(found, Criteria(intent, slo_s, least_accuracy=floor, own_rate_per_s=rate))
    taken = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    assert len(taken) + len(choice.rejected) == len(found)
    assert [one.value for one in taken] == sorted(one.value for one in taken)
    assert (choice.chosen is None) == bool(choice.reason)
    for one in taken:
        assert slo_s is None or one.candidate.latency_s.high <= slo_s
        assert floor is None or (one.candidate.accuracy or 0.0) >= floor
    assert choose(list(reversed(found)), Criteria(
        intent, slo_s, least_accuracy=floor, own_rate_per_s=rate)).chosen == choice.chosen


@given(candidates)
def test_nothing_beats_what_is_on_the_front_and_all_else_is_beaten(found: list[Candidate]) -> None:
    choice = choose(found, Criteria("min_lat"))
    taken = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    front = pareto(taken)
    assert bool(front) == bool(taken)

    def point(one: object) -> tuple[float, ...]:
        c = one.candidate  # type: ignore[attr-defined]
        return (c.latency_s.value, c.memory_bytes.value, c.latency_s.value * c.price_per_hour,
                -(c.accuracy or 0.0))

    for one in taken:
        beaten = any(all(a <= b for a, b in zip(point(other), point(one), strict=True))
                     for other in front if other is not one)
        assert (one in front) or beaten
