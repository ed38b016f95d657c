"""Streams cut anywhere are the same events."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.client.sse import EventSplitter, data_of

STREAM = (b': hello\n\ndata: {"choices":[{"text":"a\\n\\nb"}]}\n\ndata: one\ndata: two\r\n\r\n'
          b"event: x\r\ndata:three\r\n\r\ndata: [DONE]\n\n")
EVENTS = [b"", b'{"choices":[{"text":"a\\n\\nb"}]}', b"one\ntwo", b"three", b"[DONE]"]


def test_cut_at_every_byte_the_events_are_the_same() -> None:
    for size in range(1, len(STREAM) + 1):
        splitter = EventSplitter()
        events = [event for start in range(0, len(STREAM), size)
                  for event in splitter.feed(STREAM[start:start + size])]
        assert [data_of(event) for event in events] == EVENTS
        assert b"".join(events) == STREAM
        assert splitter.close() == b""


@given(st.binary(max_size=200), st.integers(1, 20))
def test_nothing_is_lost_of_whatever_comes(data, size) -> None:
    splitter = EventSplitter()
    events = [event for start in range(0, len(data), size)
              for event in splitter.feed(data[start:start + size])]
    assert b"".join(events) + splitter.close() == data
