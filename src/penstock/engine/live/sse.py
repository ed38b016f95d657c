"""Server-sent events, as far as OpenAI-style engines use them."""

DONE = b"[DONE]"
MOST_EVENT_BYTES = 16 * 2**20


class EventSplitter:
    """Cuts a stream of bytes into events, wherever the network has cut it.

    An event ends with an empty line; lines end with LF or CR LF. What is returned holds its own
    ending, so that all events together are the stream.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete with these bytes. Raises ValueError where one never ends."""
        buffer = self._rest + data if self._rest else data
        if b"\r" in buffer:
            events, self._rest = _events_of_both(buffer)
        else:
            *pieces, self._rest = buffer.split(b"\n\n")
            events = [piece + b"\n\n" for piece in pieces]
        if len(self._rest) > MOST_EVENT_BYTES:
            raise ValueError(f"an event of more than {MOST_EVENT_BYTES:,} bytes")
        return events

    def close(self) -> bytes:
        """What came after the last whole event."""
        rest, self._rest = self._rest, b""
        return rest


def _events_of_both(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Events whose lines end with LF or CR LF, and the rest."""
    events: list[bytes] = []
    start = 0
    while (end := _end_of_event(buffer, start)) >= 0:
        events.append(buffer[start:end])
        start = end
    return events, buffer[start:]


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
