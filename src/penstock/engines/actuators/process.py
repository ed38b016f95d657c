"""A model as a process of its own, started to load it and stopped to unload it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import orjson

from penstock.core.errors import InputError
from penstock.engines import process
from penstock.engines.actuators.protocol import ActuatorError
from penstock.engines.client.client import EngineClient

_LOOK_S = 0.1
_HEALTH_S = 5.0
_GRACE_S = 10.0  # to end after a signal, before it is killed
_MOST_LOG_BYTES = 64 * 2**20
_NO_SUCH = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class ProcessCommand:
    """A command line and its environment, in which ``{port}``, ``{device}`` and ``{model}`` are
    replaced at the start. It runs in ``folder``. ``served_as`` is the model's name in its API."""

    argv: Sequence[str]
    served_as: str
    environment: Mapping[str, str]
    folder: Path

    def at(self, port: int, device: int) -> tuple[list[str], dict[str, str]]:
        """Return the command for a device and a port."""
        words = {"{port}": str(port), "{device}": str(device), "{model}": self.served_as}
        return ([_filled(part, words) for part in self.argv],
                {name: _filled(value, words) for name, value in self.environment.items()})


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


@dataclass(frozen=True, slots=True)
class _Instance:
    """A started process. Its start time tells it from later processes with the same id."""

    url: str
    pid: int
    started: str


class ProcessActuator:
    """Starts ``command`` on a loopback port and waits until it answers for its model.

    A process is recorded in ``folder`` before it runs, as NAME.json beside its log. A later gateway
    finds the record, adopts the process if it is healthy, and stops it otherwise.
    """

    def __init__(self, command: ProcessCommand, device: int, folder: Path, name: str,
                 session: aiohttp.ClientSession) -> None:
        self._command = command
        self._device = device
        self._file = folder / f"{name}.json"
        self._log = folder / f"{name}.log"
        self._log_from_bytes = 0
        self._session = session
        self._instance: _Instance | None = self._found()

    @property
    def url(self) -> str | None:
        return None if self._instance is None else self._instance.url

    async def load(self) -> None:
        if self._instance is not None:
            if self._lives() and await self._answers(self._instance.url):
                return
            await self.unload()
        instance = self._begin()
        while not await self._answers(instance.url):
            if not self._lives():
                raise ActuatorError(f"it ended while it started"
                                    f"{process.last_words(self._log, self._log_from_bytes)}")
            await asyncio.sleep(_LOOK_S)

    async def unload(self) -> None:
        one = self._instance
        if one is not None:
            await process.end(one.pid, one.started, _GRACE_S)
            if process.is_same(one.pid, one.started):
                raise ActuatorError(f"process {one.pid} cannot be ended")
        self._instance = None
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    async def is_loaded(self) -> bool:
        if self._instance is None or not self._lives():
            return False
        if not await self._answers(self._instance.url):
            raise ActuatorError("its process runs and does not answer")
        return True

    async def prefetch(self) -> None:
        """Do nothing: the process reads its files itself."""

    async def close(self) -> None:
        await self.unload()

    # -- one process ----------------------------------------------------------------------------

    def _begin(self) -> _Instance:
        port = process.free_port()
        argv, own = self._command.at(port, self._device)
        try:
            if self._log.exists() and self._log.stat().st_size > _MOST_LOG_BYTES:
                self._log.replace(self._log.with_suffix(".old.log"))
            with self._log.open("ab") as log:
                self._log_from_bytes = log.tell()
                gated = process.begin(argv, process.environment(own), log,
                                      self._command.folder)
        except (InputError, OSError) as error:
            raise ActuatorError(str(error)) from error
        try:
            instance = _Instance(f"http://127.0.0.1:{port}", gated.pid,
                                 process.started_mark(gated.pid))
            self._file.write_bytes(orjson.dumps(asdict(instance)))
        except BaseException as error:
            gated.shut()
            if isinstance(error, OSError):
                raise ActuatorError(f"{self._file}: {error.strerror}") from error
            raise
        self._instance = instance
        gated.open()
        return instance

    def _found(self) -> _Instance | None:
        """Return a running process that an earlier gateway started, if there is one."""
        try:
            found = _Instance(**orjson.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found if process.is_same(found.pid, found.started) else None

    def _lives(self) -> bool:
        one = self._instance
        return one is not None and process.is_same(one.pid, one.started)

    async def _answers(self, url: str) -> bool:
        """Whether the process is healthy and serves this model: another server may have taken its
        port."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                async with self._session.get(f"{url}/health") as response:
                    if response.status != 200 and response.status not in _NO_SUCH:
                        return False
                cards = await EngineClient(self._session, url).models()
        except (aiohttp.ClientError, TimeoutError, OSError, InputError):
            return False
        return any(card.name == self._command.served_as for card in cards)
