"""Claims on adapters of engines that several processes of one gateway use."""

import asyncio
import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

_LOOK_S = 0.02


class AdapterClaims(Protocol):
    """Claims of requests on the adapters of engines, and the right to change these adapters."""

    def take(self, url: str, name: str) -> bool:
        """Claim an adapter for one more request of this process. Returns False where it makes way
        in another process."""

    def give(self, url: str, name: str) -> None:
        """Give the claim of a request back."""

    def has_changed(self, url: str) -> bool:
        """Whether another process has changed the adapters of an engine since ``seen``."""

    def seen(self, url: str) -> None:
        """Take note that this process knows the adapters of an engine as they are now."""

    def order(self, url: str) -> AbstractAsyncContextManager[None]:
        """Be the only process that may change the adapters of an engine."""

    def change(self, url: str) -> None:
        """Tell other processes that the adapters of an engine change. The caller has the order."""

    def cleared(self, url: str, name: str, patience_s: float) -> AbstractAsyncContextManager[bool]:
        """Keep new requests from an adapter, and yield whether no other process has any left, for
        which it waits ``patience_s``."""


class OneProcess:
    """Claims of the only process."""

    def take(self, url: str, name: str) -> bool:
        return True

    def give(self, url: str, name: str) -> None:
        """Do nothing."""

    def has_changed(self, url: str) -> bool:
        return False

    def seen(self, url: str) -> None:
        """Do nothing."""

    @asynccontextmanager
    async def order(self, url: str) -> AsyncIterator[None]:
        yield

    def change(self, url: str) -> None:
        """Do nothing."""

    @asynccontextmanager
    async def cleared(self, url: str, name: str, patience_s: float) -> AsyncIterator[bool]:
        yield True


class WorkerClaims:
    """Claims of one of several processes: locks of files in a folder that they share. The operating
    system gives back the claims of a process that dies.

    An engine has a file whose lock orders changes, and whose size counts them. An adapter has a
    lock that its requests share, and one that keeps new requests away while it makes way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[tuple[str, str], int] = {}
        self._num_users: Counter[tuple[str, str]] = Counter()
        self._seen: dict[str, int] = {}
        folder.mkdir(mode=0o700, exist_ok=True)

    def take(self, url: str, name: str) -> bool:
        gate = self._opened("gate", url, name)
        try:
            if not _locked(gate, fcntl.LOCK_SH):
                return False
            if (url, name) not in self._held:
                used = self._opened("use", url, name)
                if not _locked(used, fcntl.LOCK_SH):
                    os.close(used)
                    return False
                self._held[url, name] = used
            self._num_users[url, name] += 1
            return True
        finally:
            os.close(gate)

    def give(self, url: str, name: str) -> None:
        self._num_users[url, name] -= 1
        if not self._num_users[url, name]:
            del self._num_users[url, name]
            os.close(self._held.pop((url, name)))

    def has_changed(self, url: str) -> bool:
        return self._num_changes(url) != self._seen.get(url, 0)

    def seen(self, url: str) -> None:
        self._seen[url] = self._num_changes(url)

    @asynccontextmanager
    async def order(self, url: str) -> AsyncIterator[None]:
        file = self._opened("engine", url)
        try:
            while not _locked(file, fcntl.LOCK_EX):
                await asyncio.sleep(_LOOK_S)
            yield
        finally:
            os.close(file)

    def change(self, url: str) -> None:
        is_known, file = not self.has_changed(url), self._opened("engine", url)
        try:
            os.write(file, b".")
        finally:
            os.close(file)
        if is_known:  # what this process changes
            self.seen(url)

    @asynccontextmanager
    async def cleared(self, url: str, name: str, patience_s: float) -> AsyncIterator[bool]:
        gate, used = self._opened("gate", url, name), self._opened("use", url, name)
        until_s = asyncio.get_running_loop().time() + patience_s
        try:
            while not (free := _locked(gate, fcntl.LOCK_EX) and _locked(used, fcntl.LOCK_EX)) \
                    and asyncio.get_running_loop().time() < until_s:
                await asyncio.sleep(_LOOK_S)
            yield free
        finally:
            os.close(used)
            os.close(gate)

    def _num_changes(self, url: str) -> int:
        with suppress(FileNotFoundError):
            return self._path("engine", url).stat().st_size
        return 0

    def _opened(self, *names: str) -> int:
        return os.open(self._path(*names), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def _path(self, *names: str) -> Path:
        return self._folder / hashlib.blake2b("\0".join(names).encode(),
                                              digest_size=16).hexdigest()


def _locked(file: int, kind: int) -> bool:
    """Try to lock an open file. Returns whether it is locked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
