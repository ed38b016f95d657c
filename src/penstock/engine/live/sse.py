"""Server-sent events, as far as OpenAI-style engines use them."""

DONE = b"[DONE]"


class EventSplitter:
    """Cuts a stream of bytes into events, wherever the network has cut it.

    An event ends with an empty line; lines end with LF or CR LF. What is returned holds its own
    ending, so that all events together are the stream.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete with these bytes."""
        buffer = self._rest + data if self._rest else data
        events: list[bytes] = []
        start = 0
        while True:
            end = _end_of_event(buffer, start)
            if end < 0:
                break
            events.append(buffer[start:end])
            start = end
        self._rest = buffer[start:]
        return events

    def close(self) -> bytes:
        """What came after the last whole event."""
        rest, self._rest = self._rest, b""
        return rest


def _end_of_event(buffer: bytes, start: int) -> int:
    """Where the next event ends, -1 if it does not yet."""
    plain = buffer.find(b"\n\n", start)
    windows = buffer.find(b"\n\r\n", start)
    if windows >= 0 and (plain < 0 or windows < plain):
        return windows + 3
    return plain + 2 if plain >= 0 else -1


def data_of(event: bytes) -> bytes:
    """The data of an event; several data lines are joined by LF, comments are left out."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2:
        return event[6:].strip()
    return b"\n".join(line[5:].removeprefix(b" ") for line in event.splitlines()
                      if line.startswith(b"data:"))
