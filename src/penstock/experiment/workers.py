"""Independent pieces of work on the cores of this machine.

A piece holds all that its result depends on, so results are the same wherever a piece is computed.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import RLock, Thread, Timer
from typing import Any, Generic, Protocol, TypeVar

from penstock.core.errors import InputError

Piece = TypeVar("Piece")
Result = TypeVar("Result")

AHEAD = 4
"""Pieces at work or waiting, for each process: one slow piece does not stop the others."""

_MOST_TRIES = 2  # computations of a piece whose process ends before its result is there


class Executor(Protocol):
    """A place where pieces of work are computed: cores of this machine, or a cluster."""

    def results(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]
                ) -> Iterator[Result]:
        """Yield ``work`` of each piece, in the pieces' order, as they come.

        Elsewhere than in this process, ``work`` must be importable, and pieces and results
        picklable. Pieces are taken a few ahead. What is left is dropped when the caller stops.
        Raises what ``work`` raises for the first piece that fails, and InputError where a piece is
        lost with its process more than once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores of this machine: this process alone for ``num`` 1, else so many others.

    For ``patience_s`` pieces are computed in this process; what is left then goes to the others. A
    process takes about a second to start, which short work is not worth.
    """

    num: int = 1
    patience_s: float = 0.0

    def results(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]
                ) -> Iterator[Result]:
        if self.num == 1:
            yield from map(work, pieces)
            return
        with closing(_Pool(work, iter(pieces), self.num)) as pool:
            timer = Timer(self.patience_s, pool.start)
            timer.daemon = True
            if self.patience_s:
                timer.start()
            else:
                pool.start()
            try:
                yield from pool.results()
            finally:
                timer.cancel()


ALONE = Cores()
"""This process alone."""


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(slots=True)
class _Task(Generic[Piece]):
    """A piece, and its result where it is not computed here."""

    piece: Piece
    future: "Future[Any] | None" = None
    tries: int = 1


class _Pool(Generic[Piece, Result]):
    """Processes with the pieces that they have, in order. A lone piece stays in this process.

    ``start`` may be called by another thread while this one computes a piece.
    """

    def __init__(self, work: Callable[[Piece], Result], pieces: Iterator[Piece], num: int) -> None:
        self._work = work
        self._pieces = pieces
        self._num = num
        self._tasks: deque[_Task[Any]] = deque()
        self._lock = RLock()
        self._state = "waiting"  # then "started", and "done"
        self._others = set(active_children())
        self._processes: ProcessPoolExecutor | None = None

    def start(self) -> None:
        with self._lock:
            if self._state == "waiting":
                self._state = "started"
                self._fill()

    def results(self) -> Iterator[Result]:
        while True:
            with self._lock:
                self._fill()
                if not self._tasks:
                    self._state = "done"
                    return
                task = self._tasks.popleft()
            yield self._work(task.piece) if task.future is None else self._result(task)

    def close(self) -> None:
        """Drop what is left; end processes at once unless all is done."""
        with self._lock:
            unfinished, self._state = self._state != "done", "done"
            if self._processes is not None:
                self._stop(self._processes, kill=unfinished)

    def _fill(self) -> None:
        """Take pieces: the next alone, or as many as the processes should have."""
        most = AHEAD * self._num if self._state == "started" else 1
        while len(self._tasks) < most and self._take():
            pass
        if self._state == "started" and (self._processes is not None or len(self._tasks) > 1):
            for task in self._tasks:
                if task.future is None:
                    self._submit(task)

    def _take(self) -> bool:
        """Take a piece. An error in making it is told in its place, after the results before."""
        try:
            for piece in self._pieces:
                self._tasks.append(_Task(piece))
                return True
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            self._tasks.append(_Task(None, failed))
        return False

    def _submit(self, task: _Task[Piece]) -> None:
        if self._processes is None:
            # A fresh interpreter each: forking a process that has threads may leave locks held.
            self._processes = ProcessPoolExecutor(self._num, get_context("spawn"),
                                                  initializer=_end_with_the_first)
        try:
            with _interrupts_later():
                task.future = self._processes.submit(self._work, task.piece)
        except BrokenProcessPool as error:  # noticed when the result of an earlier piece is asked
            task.future, task.tries = Future(), task.tries - 1
            task.future.set_exception(error)

    def _result(self, task: _Task[Piece]) -> Result:
        while True:
            assert task.future is not None
            try:
                found: Result = task.future.result()
            except BrokenProcessPool as error:
                self._again(task, error)
            else:
                return found

    def _again(self, first: _Task[Piece], error: BrokenProcessPool) -> None:
        """Give the pieces that were lost with a process to fresh processes."""
        with self._lock:
            if self._processes is not None:
                self._stop(self._processes, kill=True)
                self._processes = None
            for task in (first, *self._tasks):
                if task.future is not None and not isinstance(task.future.exception(),
                                                              BrokenProcessPool):
                    continue
                if task.tries == _MOST_TRIES:
                    raise InputError("a process ended twice before its result was there; it was "
                                     "killed, perhaps for want of memory; try fewer: --jobs 1"
                                     ) from error
                task.tries += 1
                self._submit(task)

    def _stop(self, processes: ProcessPoolExecutor, *, kill: bool) -> None:
        if kill:
            for process in set(active_children()) - self._others:
                process.terminate()
        processes.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach before they are ready for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_first() -> None:
    """End when the process that gives work ends, were it killed: nobody else would end this one.

    End in silence on Ctrl-C, which reaches every process of a terminal: the first one speaks.
    """
    Thread(target=_end_after, args=(parent_process(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_after(first: BaseProcess | None) -> None:
    if first is not None:
        first.join()
        os._exit(1)
