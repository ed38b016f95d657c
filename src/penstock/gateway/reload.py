"""Reads the fleet file again when it changes, and goes on with the old one where it cannot."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet

_LOOK_S = 1.0


class FleetWatch:
    """Looks whether a file has changed; ``read`` makes a fleet of it, ``adopt`` goes by that one
    and says in a line what is different, ``note`` is told.

    A file that cannot be read or makes no sense changes nothing: it is told of once, and read again
    when it changes again.
    """

    def __init__(self, path: Path, read: Callable[[], Fleet], adopt: Callable[[Fleet], str],
                 note: Callable[[str], None], period_s: float = _LOOK_S) -> None:
        self._path = path
        self._read = read
        self._adopt = adopt
        self._note = note
        self._period_s = period_s
        self._stamp = self._look()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), self._period_s)
            except TimeoutError:
                pass
            stamp = self._look()
            if self._asked.is_set() or (stamp is not None and stamp != self._stamp):
                self._asked.clear()
                self._stamp = stamp
                await self._reload()

    async def _reload(self) -> None:
        try:
            fleet = await asyncio.to_thread(self._read)
            self._note(f"{self._path} was read again: {self._adopt(fleet)}")
        except (InputError, OSError) as error:
            self._note(f"{error}; the gateway goes on with the fleet that it had")

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another; None where there is no file now."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
