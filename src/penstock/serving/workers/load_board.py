"""The load by engine that the worker processes of one server tell each other.

A file in shared memory has one slot for each worker, which alone writes it. A slot is written as a
whole with its time and checksum, so that a reader who meets a half-written slot passes it over.
"""

import asyncio
import mmap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from struct import Struct
from time import monotonic_ns
from typing import Any
from zlib import crc32

import orjson

from penstock.engines.client.state import NO_PEERS, EngineState, PeerLoad

TELL_S = 0.02
"""Time between two looks at the other workers."""

STALE_S = 2.0
"""A slot that is older is that of a worker that died or hangs; the engines' metrics go on."""

_SLOT_BYTES = 2**20  # pages that nobody writes take no memory
_HEAD = Struct("<QII")  # time in ns, checksum, bytes of the text

Told = Mapping[str, Sequence[Any]]
"""The figures of a ``PeerLoad`` by the engine's ``place_of``."""


class LoadBoard:
    """The slots of ``num_workers`` in a file, which is made where it is missing. ``clock_ns`` must
    be the same for all processes of the machine."""

    def __init__(self, path: Path, num_workers: int,
                 clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self.num_workers = num_workers
        self._clock_ns = clock_ns
        with path.open("a+b") as file:
            file.truncate(num_workers * _SLOT_BYTES)
            self._slots = mmap.mmap(file.fileno(), num_workers * _SLOT_BYTES)

    def tell(self, number: int, told: Told) -> None:
        """Write a worker's load. What exceeds the slot is left out."""
        text = orjson.dumps(told)
        if len(text) > _SLOT_BYTES - _HEAD.size:
            text = b"{}"
        head = _HEAD.pack(self._clock_ns(), crc32(text), len(text))
        start = number * _SLOT_BYTES
        self._slots[start:start + len(head) + len(text)] = head + text

    def clear(self, number: int) -> None:
        """Take out the share of a worker that has died."""
        start = number * _SLOT_BYTES
        self._slots[start:start + _HEAD.size] = bytes(_HEAD.size)

    def read(self, number: int) -> Told | None:
        """Return what a worker told last: nothing where that is too old, None where the worker is
        writing."""
        start = number * _SLOT_BYTES
        at_ns, checksum, num_bytes = _HEAD.unpack_from(self._slots, start)
        if self._clock_ns() - at_ns > STALE_S * 1e9:
            return {}
        begin = start + _HEAD.size
        text = self._slots[begin:begin + min(num_bytes, _SLOT_BYTES - _HEAD.size)]
        if crc32(text) != checksum:
            return None
        found: Told = orjson.loads(text)
        return found

    def close(self) -> None:
        """Release the memory."""
        self._slots.close()


class Peers:
    """One worker's view of the others: tells them its load, and its engines theirs."""

    def __init__(self, board: LoadBoard, number: int, engines: Sequence[EngineState]) -> None:
        self._board = board
        self._number = number
        self._engines = engines
        self._told: dict[int, Told] = {}

    def exchange(self) -> None:
        """Tell the own load and take over that of the others."""
        self._board.tell(self._number, {place_of(one): [*one.own_load()] for one in self._engines
                                        if one.in_flight})
        total: dict[str, PeerLoad] = {}
        for number in range(self._board.num_workers):
            if number == self._number:
                continue
            if (told := self._board.read(number)) is not None:
                self._told[number] = told
            for place, figures in self._told.get(number, {}).items():
                total[place] = total.get(place, NO_PEERS).plus(PeerLoad(*figures))
        for engine in self._engines:
            engine.heard_of_peers(total.get(place_of(engine), NO_PEERS))

    async def run(self) -> None:
        """Exchange on and on."""
        while True:
            self.exchange()
            await asyncio.sleep(TELL_S)


def place_of(engine: EngineState) -> str:
    """Return the name by which workers know an engine: their numbers of pods may differ."""
    return f"{engine.facts.url} {engine.facts.model}"
