"""Server-sent events, in the subset that OpenAI-style engines use."""

DONE = b"[DONE]"
MOST_EVENT_BYTES = 16 * 2**20


class EventSplitter:
    """Splits a byte stream into events, independent of the network's packets.

    An event ends with an empty line; lines end with LF or CR LF. Returned events include their
    ending, so that all events together are the stream. ``buffer`` has the bytes that wait, from
    ``at`` on.
    """

    __slots__ = ("_plain", "at", "buffer")

    def __init__(self) -> None:
        self.buffer = b""
        self.at = 0
        self._plain = True  # no CR in the buffer

    def add(self, data: bytes) -> None:
        """Append bytes of the stream. Raises ValueError for an endless event."""
        self.buffer = self.buffer[self.at:] + data if self.at < len(self.buffer) else data
        self.at = 0
        self._plain = b"\r" not in self.buffer

    def next(self) -> bytes | None:
        """Return the next complete event, None where there is none yet. Raises ValueError for an
        endless event."""
        start, buffer = self.at, self.buffer
        end = buffer.find(b"\n\n", start) + 2 if self._plain else _end_of_event(buffer, start)
        if end < 2:
            if len(buffer) - start > MOST_EVENT_BYTES:
                raise ValueError(f"an event of more than {MOST_EVENT_BYTES:,} bytes")
            return None
        self.at = end
        return buffer[start:end]

    def take(self, num_bytes: int) -> bytes:
        """Take this many bytes of the rest, which must end with an event."""
        start, self.at = self.at, self.at + num_bytes
        return self.buffer[start:self.at]

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that these bytes complete. Raises ValueError for an endless event."""
        self.add(data)
        events: list[bytes] = []
        while (event := self.next()) is not None:
            events.append(event)
        return events

    def close(self) -> bytes:
        """Return the bytes after the last complete event."""
        rest, self.buffer, self.at = self.buffer[self.at:], b"", 0
        return rest


def _end_of_event(buffer: bytes, start: int) -> int:
    """Return the end of the next event, whose lines may end with CR LF; 1 where there is none."""
    lines, windows = buffer.find(b"\n\n", start), buffer.find(b"\n\r\n", start)
    if windows >= 0 and (lines < 0 or windows < lines):
        return windows + 3
    return lines + 2


def data_of(event: bytes) -> bytes:
    """Return the data of an event. Several data lines are joined by LF, comments are left out."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2:
        return event[6:].strip()
    return b"\n".join(line[5:].removeprefix(b" ") for line in event.splitlines()
                      if line.startswith(b"data:"))
