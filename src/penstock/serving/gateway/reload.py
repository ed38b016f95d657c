"""Reads the fleet file again when it changes, and goes on with the old one where it cannot."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.policy.route.protocol import Router

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Reload:
    """How a changed file becomes a fleet with its router; ``read`` raises InputError. The file is
    also read where ``asked`` is set."""

    path: Path
    read: Callable[[], Fleet]
    router: Callable[[Fleet], Router]
    asked: asyncio.Event = field(default_factory=asyncio.Event)


class FleetWatch:
    """Looks whether the fleet file has changed, or SIGHUP came. ``adopt`` goes by a new fleet and
    says in a line what is different; ``note`` is told.

    A file that cannot be read or makes no sense changes nothing: it is told of once, and read again
    when it changes again.
    """

    def __init__(self, reload: Reload, adopt: Callable[[Fleet, Router], str],
                 note: Callable[[str], None], period_s: float = _LOOK_S) -> None:
        self._reload = reload
        self._adopt = adopt
        self._note = note
        self._period_s = period_s
        self._stamp = self._look()
        self._asked = reload.asked

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled."""
        with _on_hangup(self.ask):
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), self._period_s)
                stamp = self._look()
                if self._asked.is_set() or (stamp is not None and stamp != self._stamp):
                    self._asked.clear()
                    self._stamp = stamp
                    await self._again()

    async def _again(self) -> None:
        try:
            fleet = await asyncio.to_thread(self._reload.read)
            said = self._adopt(fleet, self._reload.router(fleet))
            self._note(f"{self._reload.path} was read again: {said}")
        except (InputError, OSError) as error:
            self._note(f"{error}; the gateway goes on with the fleet that it had")

    def _look(self) -> tuple[int, int, int] | None:
        """Return the identity of the file's state; None where the file is absent."""
        try:
            status = self._reload.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _on_hangup(ask: Callable[[], None]) -> Iterator[None]:
    """Calls at SIGHUP, where there is such a signal and this is the thread that gets it."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGHUP, ask)
    except (AttributeError, NotImplementedError, ValueError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
