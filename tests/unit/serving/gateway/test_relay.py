"""What goes on of a stream is what came, whatever is said in it and wherever it is cut."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.slo import Slo
from penstock.serving.gateway.ask_limits import StreamLimit
from penstock.serving.gateway.relay import Relay, RelayedStream
from penstock.serving.gateway.tally import Pace

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(['"usage":{"completion_tokens":99}', '"finish_reason":"stop"', "usage", "\\",
                     '"content":"', '"text":"', "\n\n", "data: [DONE]", '\\"', "a\\", " "]))


def encoded(document, style):
    """A document as different engines write it."""
    if style == "orjson":
        return orjson.dumps(document)
    return json.dumps(document, ensure_ascii=style == "ascii",
                      separators=(",", ":") if style == "tight" else None).encode()


def event(choices, style, **more):
    return b"data: " + encoded({"id": "x", "choices": choices, **more}, style) + b"\n\n"


def choice(text, chat, reason=None):
    said = {"delta": {"content": text}} if chat else {"text": text}
    return [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]


def relayed(pieces, keep_usage=False):
    passed = RelayedStream()
    relay = Relay(passed, Pace(Slo(), 0.0), keep_usage=keep_usage)
    out = b"".join(relay.feed(piece, float(i)) for i, piece in enumerate(pieces))
    out += relay.feed(b"", 99.0, at_end=True)
    if relay.fault is not None:
        raise relay.fault
    return out, passed


def cut(data, draw):
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.data(), st.lists(texts, max_size=8), st.booleans(), st.booleans(),
       st.sampled_from(["orjson", "ascii", "tight", "loose"]), st.sampled_from([None, "null"]))
def test_every_event_goes_on_but_usage_nobody_asked_for(data, said, chat, keep, style, usage):
    plain = {} if usage is None else {"usage": None}
    before = b"".join(event(choice(text, chat), style, **plain) for text in said)
    end = event(choice("", chat, "length"), style, **plain)
    counted = event([], style, usage=USAGE)
    stream = b": hello\n\n" + before + end + counted + b"data: [DONE]\n\n"
    out, passed = relayed(cut(stream, data.draw), keep)
    assert out == stream if keep else out == stream.replace(counted, b"")
    assert passed.num_tokens == sum(1 for text in said if text)
    assert (passed.finish_reason, passed.usage, passed.done) == ("length", USAGE, True)


def test_usage_of_long_ago_is_not_what_has_passed_since() -> None:
    first = event(choice("a", True), "orjson", usage={"prompt_tokens": 3, "completion_tokens": 0})
    more = [event(choice("b", True), "orjson")] * 4
    assert relayed([first, *more])[1].delivered == (3, 5)
    several = event(choice("abc", True), "orjson", usage={"completion_tokens": 9})
    assert relayed([*more, several])[1].delivered == (None, 9), "of several tokens an event"
    end = event(choice("", True, "stop"), "orjson", usage={"completion_tokens": 2})
    assert relayed([*more, end])[1].delivered == (None, 2), "the engine has the last word"


def test_usage_in_the_last_choice_stays_and_counts() -> None:
    last = event(choice("", True, "stop"), "orjson", usage=USAGE)
    out, passed = relayed([last])
    assert out == last
    assert (passed.usage, passed.whole, passed.num_tokens) == (USAGE, True, 0)


@pytest.mark.parametrize("delta", [
    {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, {"reasoning_content": "hm"},
    {"reasoning": "hm"}, {"role": "assistant", "content": "x"}])
def test_what_counts_as_a_token(delta) -> None:
    assert relayed([event([{"delta": delta}], "orjson")])[1].num_tokens == 1
    assert relayed([event([{"delta": {"role": "assistant", "content": ""}}], "orjson")])[
        1].num_tokens == 0


def test_an_event_like_the_one_before_but_with_an_end_is_read() -> None:
    first, second = event(choice("a", True), "orjson"), event(choice("b", True, "stop"), "orjson")
    out, passed = relayed([first, first.replace(b'"a"', b'"zz"'), second])
    assert (passed.num_tokens, passed.finish_reason) == (3, "stop")
    assert out.count(b"data: ") == 3


def test_several_answers_in_one_event_count_once_and_their_end_is_seen() -> None:
    both = choice("a", False) + choice("b", False, "stop")
    _, passed = relayed([event(both, "orjson"), event(choice("c", False), "orjson")])
    assert (passed.num_tokens, passed.finish_reason) == (2, "stop")


def test_an_object_in_two_lines_of_data_is_one_event() -> None:
    lines = b'data: {"choices":\ndata: [{"text": "a"}]}\n\n'
    out, passed = relayed([lines])
    assert (out, passed.num_tokens) == (lines, 1)


@pytest.mark.parametrize("wrong", [b"data: {x\n\n", b"data: [1]\n\n", b"data: 3\n\n",
                                   b"<html>\n\n data: x", b"data: \xff\n\n"])
def test_what_is_no_stream_of_objects_is_an_error_or_nothing(wrong) -> None:
    try:
        _, passed = relayed([wrong])
    except ValueError:
        return
    assert not passed.whole
    assert passed.num_tokens == 0


@pytest.mark.parametrize("wrong", [b"data: {x\n\n", b"data: 3\n\n", b'data: {"choices": [3]}\n\n'])
def test_what_came_before_a_fault_goes_on_and_counts(wrong) -> None:
    one, passed = event(choice("a", True), "orjson"), RelayedStream()
    relay = Relay(passed, Pace(Slo(), 0.0), keep_usage=False)
    assert relay.feed(one + one + one + wrong + one, 1.0) == 3 * one
    assert isinstance(relay.fault, ValueError | AttributeError)
    assert (passed.num_tokens, passed.first_token_s) == (3, 1.0)


def test_a_token_has_come_when_its_event_is_over() -> None:
    told = b": hello\n" + event(choice("a", True), "orjson")
    begun = event(choice("b", True), "orjson").rstrip(b"\n")
    relay = Relay(RelayedStream(), Pace(Slo(), 0.0), keep_usage=False)
    assert relay.feed(told + begun, 1.0) == told
    assert relay.passed.num_tokens == 1


def test_moments_are_those_of_tokens() -> None:
    one = event(choice("a", True), "orjson")
    role = event([{"delta": {"role": "assistant", "content": ""}}], "orjson")
    _, passed = relayed([role, one, one, event([], "orjson", usage=USAGE)])
    assert (passed.first_token_s, passed.last_token_s) == (1.0, 2.0)


def test_an_error_in_the_stream_is_kept() -> None:
    _, passed = relayed([b'data: {"error": {"message": "no memory"}}\n\n'])
    assert passed.error == {"message": "no memory"}
    _, passed = relayed([b'data: {"error": "no memory"}\n\n'])
    assert passed.error == {"message": "no memory"}


@given(st.integers(0, 30), st.lists(st.integers(1, 9), max_size=6), st.booleans())
def test_a_stream_is_cut_at_its_limit_wherever_it_is_cut_by_the_network(most, sizes, similar):
    words = [f"w{'' if similar else n}" for n in range(40)]
    stream = b"".join(event(choice(word, True), "orjson", **({} if similar else {"n": n}))
                      for n, word in enumerate(words))
    passed = RelayedStream()
    relay = Relay(passed, Pace(Slo(), 0.0), keep_usage=True, limit=StreamLimit(most, 10**9))
    out, start = b"", 0
    for size in [*sizes, 10**6]:
        out += relay.feed(stream[start:start + 37 * size], 1.0)
        start += 37 * size
    assert (out.count(b"data: "), passed.num_tokens, passed.is_cut) == (most, most, True)
    assert stream.startswith(out)
    assert relay.feed(stream, 2.0, at_end=True) == b""
    last, counted, done, _ = relay.ending(3, 4).split(b"\n\n")
    assert orjson.loads(last[6:])["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert orjson.loads(counted[6:])["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert done == b"data: [DONE]"


def test_a_stream_is_cut_where_its_text_is_longer_than_its_tokens_can_be() -> None:
    passed = RelayedStream()
    relay = Relay(passed, Pace(Slo(), 0.0), keep_usage=False, limit=StreamLimit(100, 500))
    for _ in range(9):
        relay.feed(event(choice("x" * 300, False), "orjson"), 1.0)
    assert (passed.num_tokens, passed.num_bytes, passed.is_cut) == (2, 600, True)


def test_nothing_passes_after_the_end() -> None:
    one = event(choice("a", True), "orjson")
    out, passed = relayed([one + b"data: [DONE]\n\n" + one, one])
    assert (out, passed.num_tokens) == (one + b"data: [DONE]\n\n", 1)


def test_token_ids_without_text_are_tokens() -> None:
    ids = event([{"index": 0, "text": "", "token_ids": [7, 8]}], "orjson")
    assert relayed([ids])[1].num_tokens == 1
