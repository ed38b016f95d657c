"""What clients say of their objectives, as an engine's scheduler understands it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.fields import ServiceClasses

CHAT = ServiceClass("chat", Slo(ttft_s=1.0, itl_s=0.05), priority=1, weight=2.0)
BATCH = ServiceClass("batch", Slo(e2e_s=300.0), priority=3)


@pytest.fixture
def classes() -> ServiceClasses:
    return ServiceClasses((CHAT, BATCH), BATCH)


@pytest.mark.parametrize(("said", "priority", "expected"), [
    (None, 0, BATCH), ({}, 0, BATCH), ({"service_class": "chat"}, 0, CHAT),
    ({"service_class": "nobody"}, 0, BATCH), ({"service_class": 7}, 0, BATCH),
    ({}, 1, CHAT), ({"priority": 1}, 0, CHAT), ({"priority": "1"}, 3, CHAT), ({}, 77, BATCH)])
def test_the_class_by_name_then_by_priority_then_the_default(
        classes: ServiceClasses, said: Any, priority: int, expected: ServiceClass) -> None:
    found = classes.of(said, priority)
    assert (found.name, found.slo) == (expected.name, expected.slo)


def test_a_named_class_may_have_another_priority(classes: ServiceClasses) -> None:
    found = classes.of({"service_class": "chat"}, 9)
    assert (found.name, found.priority, found.weight) == ("chat", 9, 2.0)


def test_own_targets_replace_those_of_the_class(classes: ServiceClasses) -> None:
    found = classes.of({"service_class": "chat", "ttft_s": 0.25, "e2e_s": "12"})
    assert found.name == "chat"  # the pace is the same, so it decodes with the others
    assert found.slo == Slo(ttft_s=0.25, itl_s=0.05, e2e_s=12.0)


def test_a_pace_of_its_own_is_a_class_of_its_own(classes: ServiceClasses) -> None:
    found = classes.of({"service_class": "chat", "itl_s": 0.0337})
    assert (found.name, found.slo.itl_s) == ("chat@0.033", 0.033)
    assert classes.of({"itl_s": 0.02}).name == "batch@0.02"


def test_an_end_alone_is_another_kind_of_pace() -> None:
    plain = ServiceClass("plain")
    assert ServiceClasses((plain,), plain).of({"e2e_s": 5.0}).name == "plain@end"


@pytest.mark.parametrize("value", [None, True, "soon", "nan", float("inf"), -1, 0, [1], {}])
def test_what_makes_no_sense_counts_as_not_said(classes: ServiceClasses, value: Any) -> None:
    assert classes.of({"service_class": "chat", "ttft_s": value, "itl_s": value,
                       "e2e_s": value, "priority": value if value else None}) .slo == CHAT.slo


def test_clients_cannot_make_classes_without_end(classes: ServiceClasses) -> None:
    names = {classes.of({"service_class": "chat", "itl_s": 1.1 ** -number}).name
             for number in range(2000)}
    assert len(names) <= ServiceClasses.MOST + 1
    late = classes.of({"service_class": "chat", "itl_s": 3.3e-300, "ttft_s": 4.0})
    assert (late.name, late.slo) == ("chat", Slo(ttft_s=4.0, itl_s=0.05))


@given(st.floats(1e-6, 1e4))
def test_paces_are_rounded_down_a_little(seconds: float) -> None:
    found = ServiceClasses((CHAT,), CHAT).of({"itl_s": seconds}).slo.itl_s
    assert found is not None
    assert 0.9 * seconds <= found <= seconds * (1 + 1e-9)


@given(st.lists(st.dictionaries(st.sampled_from(("ttft_s", "itl_s", "e2e_s")),
                                st.floats(0.01, 10)), max_size=20))
def test_equal_names_mean_equal_paces(asked: list[dict[str, float]]) -> None:
    classes = ServiceClasses((CHAT, BATCH), BATCH)
    paces: dict[str, Any] = {}
    for said in asked:
        found = classes.of(said)
        kind = found.slo.itl_s, found.slo.itl_s is None and found.slo.e2e_s is not None
        assert paces.setdefault(found.name, kind) == kind
