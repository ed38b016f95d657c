"""Several worker processes of one endpoint picker on one port, and the process that keeps them.

Each worker is an endpoint picker of its own, with an event loop, engines and a router of its own.
The kernel spreads the gateway's connections over them (SO_REUSEPORT). Their load is common
(``load_board``); what their routers and forecasts have learned is not.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from penstock.core.errors import InputError
from penstock.serving.endpoint_picker.load_board import LoadBoard
from penstock.serving.endpoint_picker.summed_metrics import summed

_PAUSE_S = 1.0  # before a worker that has ended starts again

Get = Callable[[str], Coroutine[Any, Any, tuple[int, bytes]]]
"""Gets a URL: status and body."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """A worker's number, and the folder that the workers of one picker share."""

    number: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.number}:{self.folder}"

    @classmethod
    def of(cls, text: str) -> "WorkerPlace":
        """Return the place of its text."""
        number, _, folder = text.partition(":")
        return cls(int(number), Path(folder))

    @property
    def num_workers(self) -> int:
        """The number of workers with this one."""
        return int((self.folder / "workers").read_text())

    def board(self) -> LoadBoard:
        """Open the board of this worker and the others."""
        return LoadBoard(self.folder / "load", self.num_workers)


@dataclass(slots=True)
class Worker:
    """One worker process. ``url`` is that of its own operations, empty until it serves."""

    number: int
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    metrics: str = ""


class Workers:
    """Starts workers, and starts one again that has ended. ``command(place)`` is a worker's
    command line; it prints its gRPC address and its URL."""

    def __init__(self, command: Callable[[WorkerPlace], Sequence[str]], folder: Path,
                 num_workers: int, note: Callable[[str], None]) -> None:
        (folder / "workers").write_text(str(num_workers))
        self._command = command
        self._folder = folder
        self._note = note
        self._board = LoadBoard(folder / "load", num_workers)
        self._workers = [Worker(number) for number in range(num_workers)]
        self._dead_metrics = ""
        self._stopping = asyncio.Event()
        self._serving = asyncio.Event()
        self.num_restarts = 0
        """How many workers were started again."""

    @property
    def serving(self) -> list[Worker]:
        """The workers that serve now."""
        return [] if self._stopping.is_set() else [one for one in self._workers if one.url]

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [one.process.pid for one in self._workers if one.process is not None]

    async def keep(self) -> None:
        """Keep every worker running, until ``stop``; where this is cancelled, kill them. Raises
        InputError where a worker ends before all of them have served."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._keep(worker))
        except* InputError as found:
            raise found.exceptions[0] from None
        finally:
            self._board.close()

    async def all_serving(self) -> None:
        """Wait until every worker has served."""
        await self._serving.wait()

    def stop(self) -> None:
        """Let the workers drain and end, and with them ``keep``."""
        self._stopping.set()
        for worker in self._workers:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGTERM)

    async def look(self, get: Get) -> None:
        """Keep the latest metrics of each worker: what a worker has counted must not vanish with
        the worker."""
        async def one(worker: Worker) -> None:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                status, text = await get(f"{worker.url}/metrics")
                if status == 200:
                    worker.metrics = text.decode()

        await asyncio.gather(*map(one, self.serving))

    def metrics(self) -> str:
        """Return the metrics of all workers, the ended ones included."""
        return summed((one.metrics for one in self._workers if one.metrics), [self._dead_metrics])

    async def _keep(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            try:
                why = f"has ended with status {await self._run(worker)}"
            except OSError as error:  # no memory for a further process, for example
                why = f"cannot start ({error})"
            if not self._serving.is_set() and not self._stopping.is_set():
                raise InputError(f"worker {worker.number} did not start; it has told why")
            self._ended(worker, why)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._stopping.wait()

    async def _run(self, worker: Worker) -> int:
        """Run a worker's process to its end, and return its status."""
        process = worker.process = await asyncio.create_subprocess_exec(
            *self._command(WorkerPlace(worker.number, self._folder)),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True)  # this process handles Ctrl-C in its terminal
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        try:
            if line := (await process.stdout.readline()).decode():
                worker.url = line.split()[2]
                if all(one.url for one in self._workers):
                    self._serving.set()
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
            await process.stdout.read()

    def _ended(self, worker: Worker, why: str) -> None:
        worker.process, worker.url = None, ""
        if self._stopping.is_set():
            return
        self._board.clear(worker.number)
        self._dead_metrics = summed([], [self._dead_metrics, worker.metrics])
        worker.metrics = ""
        self.num_restarts += 1
        self._note(f"worker {worker.number} {why}, and starts again")
