"""The body of an answer on its way through the endpoint picker."""

import orjson

from penstock.engines.client.sse import EventSplitter
from penstock.serving.endpoint_picker.account import Account

MOST_KEPT_BYTES = 8 * 2**20
"""Longest answer in one piece that is read for its usage, and whose model name is rewritten."""


class AnswerBody:
    """Passes an answer on and lets the account read it.

    Where the client knows the model by another name than the engine, ``renamed`` has the engine's
    name and the client's. Then an answer in one piece is held until its end, and of a stream each
    event until the event's end. A packed answer (``is_packed``) passes unread.
    """

    def __init__(self, account: Account, renamed: tuple[str, str] | None, *, streamed: bool,
                 is_packed: bool) -> None:
        self._account = account
        self._renamed = None if is_packed else renamed
        self._is_streamed = streamed
        self._is_packed = is_packed
        self._kept = bytearray()
        self._splitter = EventSplitter()

    @property
    def is_rewritten(self) -> bool:
        """Whether the length of the answer may change."""
        return self._renamed is not None

    def feed(self, chunk: bytes, *, at_end: bool) -> bytes:
        """Take bytes of the engine and return those that may pass on."""
        if self._is_packed:
            return chunk
        if self._is_streamed:
            self._account.heard(chunk, at_end=at_end)
            return chunk if self._renamed is None else self._events(chunk, at_end=at_end)
        return self._whole(chunk, at_end=at_end)

    def _whole(self, chunk: bytes, *, at_end: bool) -> bytes:
        if len(self._kept) + len(chunk) > MOST_KEPT_BYTES:
            self._is_packed = True  # too long: the rest passes unread, too
            held = b"" if self._renamed is None else bytes(self._kept)
            self._kept.clear()
            return held + chunk
        self._kept += chunk
        if not at_end:
            return chunk if self._renamed is None else b""
        content = bytes(self._kept)
        self._account.heard_whole(content)
        return chunk if self._renamed is None else _renamed_whole(content, *self._renamed)

    def _events(self, chunk: bytes, *, at_end: bool) -> bytes:
        assert self._renamed is not None, "only events with another name are held"
        try:
            events = self._splitter.feed(chunk)
        except ValueError:  # an endless event passes as it is
            self._renamed = None
            return self._splitter.close()
        if at_end:
            events.append(self._splitter.close())
        return b"".join(_renamed_event(event, *self._renamed) for event in events)


def _renamed_whole(content: bytes, engines: str, clients: str) -> bytes:
    try:
        document = orjson.loads(content)
        if not isinstance(document, dict) or document.get("model") != engines:
            return content
        return orjson.dumps({**document, "model": clients})
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return content


def _renamed_event(event: bytes, engines: str, clients: str) -> bytes:
    """Return an event with the client's name. Inside of a JSON string the quotes of such bytes are
    escaped, so they are never text of the answer."""
    name = orjson.dumps(engines)
    for gap in (b"", b" "):
        field = b'"model":' + gap + name
        if field in event:
            return event.replace(field, b'"model":' + gap + orjson.dumps(clients), 1)
    return event
