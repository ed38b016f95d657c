"""Server-sent events, as far as OpenAI-style engines use them."""

DONE = b"[DONE]"
MOST_EVENT_BYTES = 16 * 2**20


class EventSplitter:
    """Cuts a stream of bytes into events, wherever the network has cut it.

    An event ends with an empty line; lines end with LF or CR LF. What is returned holds its own
    ending, so that all events together are the stream.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._plain = True  # no CR in the buffer

    def add(self, data: bytes) -> None:
        """More of the stream. Raises ValueError where an event never ends."""
        self._buffer = self._buffer[self._at:] + data if self._at < len(self._buffer) else data
        self._at = 0
        self._plain = b"\r" not in self._buffer

    def next(self) -> bytes | None:
        """The next whole event, None where there is none yet. Raises ValueError where one never
        ends."""
        start, buffer = self._at, self._buffer
        end = _end_of_event(buffer, start, plain=self._plain)
        if end is None:
            if len(buffer) - start > MOST_EVENT_BYTES:
                raise ValueError(f"an event of more than {MOST_EVENT_BYTES:,} bytes")
            return None
        self._at = end
        return buffer[start:end]

    @property
    def rest(self) -> bytes:
        """Bytes that were not taken yet."""
        return self._buffer[self._at:]

    def take(self, num_bytes: int) -> bytes:
        """So many bytes of the rest, which end with an event."""
        start, self._at = self._at, self._at + num_bytes
        return self._buffer[start:self._at]

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete with these bytes. Raises ValueError where one never ends."""
        self.add(data)
        events: list[bytes] = []
        while (event := self.next()) is not None:
            events.append(event)
        return events

    def close(self) -> bytes:
        """Return the bytes after the last whole event."""
        rest, self._buffer, self._at = self._buffer[self._at:], b"", 0
        return rest


def _end_of_event(buffer: bytes, start: int, *, plain: bool) -> int | None:
    """Return the end of the next event; ``plain`` where all its lines end with LF alone."""
    lines = buffer.find(b"\n\n", start)
    windows = -1 if plain else buffer.find(b"\n\r\n", start)
    if windows >= 0 and (lines < 0 or windows < lines):
        return windows + 3
    return lines + 2 if lines >= 0 else None


def data_of(event: bytes) -> bytes:
    """The data of an event; several data lines are joined by LF, comments are left out."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2:
        return event[6:].strip()
    return b"\n".join(line[5:].removeprefix(b" ") for line in event.splitlines()
                      if line.startswith(b"data:"))
