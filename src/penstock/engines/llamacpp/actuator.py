"""A model that llama.cpp loads and frees inside this process, served on its own loopback port."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.engines.actuators.protocol import ActuatorError
from penstock.engines.embedded.options import EmbeddedOptions
from penstock.engines.llamacpp.serve import LlamaSettings, llama_engine

_PIECE_BYTES = 1 << 24


class _Open(NamedTuple):
    """A loaded model, and the context that closes it."""

    stack: AsyncExitStack
    url: str
    task: "asyncio.Task[None]"


class LlamaCppActuator:
    """The model of ``settings``, with steps planned by the policy of ``options``. ``note`` gets the
    traceback of an error that the client did not cause."""

    def __init__(self, settings: LlamaSettings, options: EmbeddedOptions,
                 note: Callable[[str], None]) -> None:
        self._settings = settings
        self._options = options
        self._note = note
        self._loading: asyncio.Task[_Open] | None = None

    @property
    def url(self) -> str | None:
        opened = self._opened
        return None if opened is None else opened.url

    @property
    def _opened(self) -> _Open | None:
        one = self._loading
        if one is None or not one.done() or one.cancelled() or one.exception() is not None:
            return None
        return one.result()

    async def load(self) -> None:
        if await self.is_loaded():
            return
        await self.unload()
        self._loading = asyncio.ensure_future(self._begin())
        try:
            # Shielded: a thread that reads a model cannot be stopped, only awaited.
            await asyncio.shield(self._loading)
        except InputError as error:
            raise ActuatorError(str(error)) from error

    async def _begin(self) -> _Open:
        stack = AsyncExitStack()
        url, _, task = await stack.enter_async_context(
            llama_engine(self._settings, self._options, self._note))
        return _Open(stack, url, task)

    async def unload(self) -> None:
        if self._loading is None:
            return
        await asyncio.wait([self._loading])  # the rest of a load that took too long
        opened, self._loading = self._opened, None
        if opened is not None:
            await opened.stack.aclose()

    async def is_loaded(self) -> bool:
        opened = self._opened
        return opened is not None and not opened.task.done()

    async def prefetch(self) -> None:
        """Read the file, so that it is in the page cache."""
        await asyncio.to_thread(_read, self._settings.model)

    async def close(self) -> None:
        await self.unload()


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.read(_PIECE_BYTES):
            pass
