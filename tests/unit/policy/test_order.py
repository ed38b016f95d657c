"""Order keys and their limits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.order import (
    arrival_key,
    attained_key,
    deadline_key,
    hybrid_key,
    order_key,
    remaining_key,
)
from penstock.policy.schedule.sequence import Sequence

ROWS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 500), st.integers(0, 99)),
                min_size=2, max_size=8)


def sequences(rows: list[tuple[int, int, int]]) -> list[Sequence]:
    made = []
    for serial, (deadline_s, tokens, computed) in enumerate(rows):
        request = Request(serial, float(serial), tokens, 1, ServiceClass("any"))
        made.append(Sequence(request, serial, float(deadline_s), 0))
        made[-1].computed = min(computed, tokens - 1)
    return made


@given(ROWS)
def test_hybrid_of_zero_is_earliest_deadline_first(rows: list[tuple[int, int, int]]) -> None:
    many = sequences(rows)
    assert sorted(many, key=hybrid_key(0.0)) == sorted(many, key=deadline_key)


@given(ROWS)
def test_hybrid_of_infinity_is_shortest_remaining_first(rows: list[tuple[int, int, int]]) -> None:
    many = sequences(rows)
    by_hybrid = [s.remaining for s in sorted(many, key=hybrid_key(1e6))]
    assert by_hybrid == sorted(s.remaining for s in many)
    ranked = sorted(many, key=lambda s: (remaining_key(s), deadline_key(s)))
    assert sorted(many, key=hybrid_key(1e6)) == ranked


def test_niyama_weighs_a_thousand_prompt_tokens_as_eight_seconds() -> None:
    options = scheduler_options("niyama")
    short, long = sequences([(10, 1, 0), (10, 1001, 0)])
    key = order_key(options)
    assert key(long) - key(short) == pytest.approx(8.0)


def test_remaining_counts_what_is_left() -> None:
    (one,) = sequences([(0, 100, 40)])
    assert remaining_key(one) == 60.0
    assert arrival_key(one) == 0.0


@pytest.mark.parametrize(("policy", "key"), [
    ("fcfs", arrival_key), ("orca", arrival_key), ("sarathi", arrival_key),
    ("edf", deadline_key), ("srpf", remaining_key), ("plas", attained_key),
    ("penstock", deadline_key)])
def test_each_policy_has_its_order(policy: str, key: object) -> None:
    assert order_key(scheduler_options(policy)) is key


def test_unknown_order_is_bad_input() -> None:
    options = replace(scheduler_options("edf"), order="alphabetical")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alphabetical"):
        order_key(options)
