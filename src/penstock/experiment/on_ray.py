"""Independent pieces of work as tasks of a Ray cluster.

Ray starts a task again when its worker or its node is lost, and keeps what tasks share once on each
node; nothing of that is done here.
"""

import io
import logging
import os
import pickle
import socket
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from penstock.core.errors import InputError, missing_extra
from penstock.experiment.shipped import shipped_modules
from penstock.experiment.workers import AHEAD, Piece, Result, num_cores

_MOST_RETRIES = 3
_CONNECT_S = 3.0
_ANSWER_S = 10.0
_FRAME_HEAD_BYTES, _SETTINGS = 9, 4  # of HTTP/2, on which gRPC builds
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
_CLIENT_PORT = 10_001
_SHARED_BYTES = 65_536  # arrays from this size on are sent once
_MOST_SHARED = 64       # such arrays that are remembered
_TASK_S = 0.25   # of short pieces: a task costs some milliseconds, and ends before it is missed
_LONGEST_S = 1.0  # then a task of several pieces, which take longer than those before, is cut
_MOST_PIECES = 256


@dataclass(frozen=True, slots=True)
class OnRay:
    """A Ray cluster: the one at ``address``, else one of this machine alone.

    The address is ``HOST:PORT`` for a cluster of which this machine is a node, and
    ``ray://HOST:PORT`` for any. Where Ray is connected already, that connection is used.

    At most ``num`` tasks are in work at once; 0 sets no bound but the cluster's cores. The
    modules of Penstock and of plug-ins are sent to a cluster at an address.
    """

    address: str | None = None
    num: int = 0

    def results(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]
                ) -> Iterator[Result]:
        """As an ``Executor``. Raises InputError where Ray is not installed, no cluster answers, or
        a piece is lost with each of several workers."""
        ray = _ray()
        # Ray prints lost workers and nodes on stdout, which is for results alone.
        with redirect_stdout(sys.stderr), _connected(ray, self.address, self.num or num_cores()):
            tasks = _Tasks(ray, work, self.num)
            try:
                yield from tasks.results(iter(pieces))
            except ray.exceptions.RayError as error:
                raise InputError(f"--on {_named(self.address)}: {_line(error)}") from error
            finally:
                tasks.cancel()


class _Task(NamedTuple):
    """Ray's reference to a task, and the pieces that it computes."""

    reference: Any
    pieces: list[Any]


class _Tasks:
    """Tasks in the order of their pieces. A task has several pieces where these are short: as many
    as take a moment, by the times of the pieces before."""

    def __init__(self, ray: Any, work: Callable[[Any], Any], num: int) -> None:
        self._ray = ray
        self._work = work
        self._num = num
        self._size = 1
        self._fault: Exception | None = None
        self._remote = ray.remote(num_cpus=1, max_retries=_MOST_RETRIES)(computed)
        self._started: deque[Any] = deque()
        self._shared: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def results(self, pieces: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._fill(pieces)
            if not self._started:
                if self._fault is not None:
                    raise self._fault
                return
            found: Computed = self._ray.get(self._started[0].reference)
            task = self._started.popleft()
            self._size = bundle(found)
            if found.error is None:
                self._go_on(task.pieces[len(found.results):])
            yield from found.results
            if found.error is not None:
                raise found.error

    def cancel(self) -> None:
        """End the tasks whose results nobody awaits."""
        for task in self._started:
            with suppress(Exception):  # it has ended, or the cluster is gone
                self._ray.cancel(task.reference, force=True)

    def _fill(self, pieces: Iterator[Any]) -> None:
        most = self._num or AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        while len(self._started) < most:
            taken = self._take(pieces)
            if not taken:
                return
            self._started.append(self._start(taken))

    def _go_on(self, left: list[Any]) -> None:
        """Start tasks of pieces for which their task had no time, before those that have begun."""
        starts = range(0, len(left), self._size)
        tasks = [self._start(left[start:start + self._size]) for start in starts]
        self._started.extendleft(reversed(tasks))

    def _start(self, pieces: list[Any]) -> _Task:
        packed, arrays = pack((self._work, pieces))
        return _Task(self._remote.remote(packed, *map(self._sent, arrays)), pieces)

    def _take(self, pieces: Iterator[Any]) -> list[Any]:
        """The pieces of the next task. An error in making one is raised in its place, after the
        results before."""
        taken: list[Any] = []
        if self._fault is None:
            try:
                for piece in islice(pieces, self._size):
                    taken.append(piece)  # noqa: PERF402 (what comes before an error counts)
            except Exception as error:
                self._fault = error
        return taken

    def _sent(self, array: Any) -> Any:
        """The reference to an array, which is sent once."""
        if id(array) not in self._shared:
            # The array is kept as well, since only then no other one has its id.
            self._shared[id(array)] = array, self._ray.put(array)
            if len(self._shared) > _MOST_SHARED:
                self._shared.popitem(last=False)
        self._shared.move_to_end(id(array))
        return self._shared[id(array)][1]


class Computed(NamedTuple):
    """Results of a task's first pieces, the error of the piece after them if that failed, and their
    time in seconds. Pieces after these were not begun."""

    results: list[Any]
    error: Exception | None
    seconds: float


def computed(packed: bytes, *arrays: Any) -> Computed:
    """Compute pieces of a task on a worker, the first and more while they do not take long."""
    work, pieces = _Unpickler(packed, arrays).load()
    begun_s = time.perf_counter()
    results: list[Any] = []
    for piece in pieces:
        try:
            results.append(work(piece))
        except Exception as error:
            return Computed(results, error, time.perf_counter() - begun_s)
        if time.perf_counter() - begun_s > _LONGEST_S:
            break
    return Computed(results, None, time.perf_counter() - begun_s)


def bundle(done: Computed) -> int:
    """Return the number of pieces like these that take ``_TASK_S`` seconds, at least 1."""
    each_s = done.seconds / max(1, len(done.results))
    return max(1, min(_MOST_PIECES, int(_TASK_S / max(each_s, 1e-9))))


def pack(value: Any) -> tuple[bytes, list[Any]]:
    """Return a value pickled without its large arrays, and these arrays."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.arrays


class _Pickler(pickle.Pickler):
    """Pickles large arrays as their number among ``arrays``."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.arrays: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not np.ndarray or obj.nbytes < _SHARED_BYTES or obj.dtype.hasobject:
            return None
        self.arrays.append(obj)
        return len(self.arrays) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, packed: bytes, arrays: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(packed))
        self._arrays = arrays

    def persistent_load(self, pid: Any) -> Any:
        return self._arrays[pid]


# -- the cluster --------------------------------------------------------------------------------


def _ray() -> Any:
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # else the last of equal lines come at the end
    try:
        with redirect_stdout(sys.stderr):
            import ray
            import ray.exceptions
    except ImportError as error:
        raise missing_extra("--on ray", "ray", error) from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, num: int) -> Iterator[None]:
    """Connect to the cluster at an address, or start one on this machine for the while."""
    if ray.is_initialized():  # by the caller, whose cluster it is
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": "local", "num_cpus": num, "include_dashboard": False}
    if address is not None:
        _check_answers(address)
        options = {"address": address, "runtime_env": {"py_modules": shipped_modules()}}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, by what is wrong with the cluster
        raise InputError(f"--on {_named(address)}: {_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise InputError where nothing listens at the address, or something that does not speak
    gRPC. Ray would try for minutes."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        place = parts.hostname or "", parts.port or _CLIENT_PORT
        with socket.create_connection(place, _CONNECT_S) as there:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _check_speaks_http2(there)
    except (OSError, ValueError) as error:
        raise InputError(f"--on {_named(address)}: no Ray cluster answers there "
                         f"({getattr(error, 'strerror', None) or error})") from error


def _check_speaks_http2(there: socket.socket) -> None:
    """Raise ValueError unless the first that is heard is a frame of settings (RFC 9113, 3.4)."""
    there.settimeout(_ANSWER_S)
    there.sendall(_PREFACE)
    head = b""
    while len(head) < _FRAME_HEAD_BYTES and (more := there.recv(_FRAME_HEAD_BYTES - len(head))):
        head += more
    if len(head) < _FRAME_HEAD_BYTES or head[3] != _SETTINGS:
        raise ValueError("another program listens")


def _named(address: str | None) -> str:
    """The address as the command line spells it."""
    if address is None:
        return "ray"
    return address if "://" in address else f"ray:{address}"


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{lines[0].strip()[:200]} ({type(error).__name__})" if lines else type(error).__name__
