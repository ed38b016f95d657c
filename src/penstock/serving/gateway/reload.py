"""Reloads the fleet file when it changes, and keeps the old fleet where the new file is invalid."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.core.errors import InputError
from penstock.engines.beside import is_set_within
from penstock.engines.file_stamp import file_stamp
from penstock.fleet.values import Fleet
from penstock.policy.route.protocol import Router

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Reload:
    """How a changed file becomes a fleet with its router. ``read`` raises InputError. Setting
    ``asked`` also triggers a reload."""

    path: Path
    read: Callable[[], Fleet]
    router: Callable[[Fleet], Router]
    asked: asyncio.Event = field(default_factory=asyncio.Event)


class FleetWatch:
    """Watches the fleet file for changes, and SIGHUP. ``adopt`` applies a new fleet and returns one
    line about the differences, which goes to ``note``, which calls the
    server ``who``. ``audit`` gets the outcome, without texts of
    the file.

    A file that is unreadable or invalid changes nothing. It is reported once, and read again after
    its next change.
    """

    def __init__(self, reload: Reload, adopt: Callable[[Fleet, Router], str],
                 note: Callable[[str], None],
                 audit: Callable[[str], Awaitable[None]] | None = None,
                 period_s: float = _LOOK_S, who: str = "the gateway") -> None:
        self._who = who
        self._audit = audit
        self._reload = reload
        self._adopt = adopt
        self._note = note
        self._period_s = period_s
        self._stamp = file_stamp(reload.path)
        self._asked = reload.asked

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        with _on_hangup(self.ask):
            while True:
                is_asked = await is_set_within(self._asked, self._period_s)
                stamp = file_stamp(self._reload.path)
                if is_asked or (stamp is not None and stamp != self._stamp):
                    self._asked.clear()
                    self._stamp = stamp
                    await self._again()

    async def _again(self) -> None:
        outcome = "refused"
        try:
            fleet = await asyncio.to_thread(self._reload.read)
            said = self._adopt(fleet, self._reload.router(fleet))
            outcome = "done"
            self._note(f"{self._reload.path} was read again: {said}")
        except (InputError, OSError) as error:
            self._note(f"{error}; {self._who} goes on with the fleet that it had")
        if self._audit is not None:
            await self._audit(outcome)


@contextmanager
def _on_hangup(ask: Callable[[], None]) -> Iterator[None]:
    """Call ``ask`` at SIGHUP, on platforms with this signal and in the thread that receives it."""
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
