"""Tokens to charge, whatever an engine counts."""

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ServiceClass
from penstock.serving.gateway.ask import Offer, read_ask
from penstock.serving.tenants import usage
from penstock.serving.tenants.usage import Relayed, judge

OFFER = Offer({"chat": ServiceClass("chat")}, {"m": 1000})
CLAIMS = st.none() | st.integers() | st.floats() | st.booleans() | st.text() | st.lists(
    st.integers(), max_size=2) | st.integers(0, 200)


def ask(**body):
    return read_ask(orjson.dumps({"prompt": "x" * 40, "max_tokens": 20, **body}), {}, OFFER)


def whole(num_tokens, num_bytes, *, stream=True):
    return Relayed(num_tokens, num_bytes, stream, True)


@pytest.mark.parametrize(("claim", "relayed", "tokens", "dispute"), [
    (20, whole(20, 80), 20, None), (21, whole(20, 80), 20, usage.OUTPUT_ABOVE),
    (10**30, whole(3, 9), 3, usage.OUTPUT_ABOVE), (-1, whole(3, 9), 3, usage.NO_NUMBER),
    (2.0, whole(3, 9), 3, usage.NO_NUMBER), (None, whole(3, 9), 3, None),
    (0, whole(1, 1), 1, usage.BELOW), (0, whole(0, 0), 0, None),
    (8, whole(25, 99), 8, None), (8, whole(26, 99), 20, usage.BELOW),
    (None, Relayed(37, 99, True, False, True), 20, usage.CUT),
    (4, whole(9, 36, stream=False), 4, None),
    (4, whole(2000, 9000, stream=False), 20, usage.BELOW)])
def test_the_count_of_an_engine_is_taken_where_it_can_be_true(claim, relayed, tokens,
                                                             dispute) -> None:
    assert judge(ask(), 10, claim, relayed) == (10, tokens, dispute)


def test_more_tokens_than_the_text_has_bytes_are_disputed_unless_they_may_be_hidden() -> None:
    relayed = whole(2, 8)
    assert judge(ask(max_tokens=900), 1, 73, relayed) == (1, 2, usage.FAR_ABOVE)
    assert judge(ask(max_tokens=900), 1, 72, relayed) == (1, 72, None)
    for hiding in ({"best_of": 3}, {"include_reasoning": False}, {"detokenize": False}):
        assert judge(ask(max_tokens=900, **hiding), 1, 800, relayed) == (1, 800, None)


def test_an_answer_that_was_not_finished_is_not_compared_with_its_count() -> None:
    assert judge(ask(), 1, 12, Relayed(3, 3, True, False)) == (1, 12, None)


@pytest.mark.parametrize(("claim", "tokens", "dispute"), [
    (None, 10, None), (9, 9, None), (0, 0, None), (10**9, 10, usage.PROMPT_ABOVE),
    (True, 10, usage.NO_NUMBER), ("9", 10, usage.NO_NUMBER)])
def test_tokens_of_the_prompt(claim, tokens, dispute) -> None:
    assert judge(ask(), claim, 3, whole(3, 9)) == (tokens, 3, dispute)


@given(CLAIMS, CLAIMS, st.integers(0, 10**6), st.integers(0, 10**9), st.booleans(), st.booleans(),
       st.booleans())
def test_no_count_is_above_what_was_held(prompt, output, tokens, num_bytes, stream, is_whole,
                                         is_cut) -> None:
    one = ask(n=2)
    found = judge(one, prompt, output, Relayed(tokens, num_bytes, stream, is_whole, is_cut))
    assert 0 <= found.prompt_tokens <= one.most_prompt_tokens
    assert 0 <= found.output_tokens <= one.most_output_tokens
