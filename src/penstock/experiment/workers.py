"""Independent pieces of work in processes of their own."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def results(work: Callable[[Piece], Result], pieces: Sequence[Piece],
            num_workers: int = 1) -> Iterator[Result]:
    """``work`` of each piece, in the pieces' order, as they come.

    With several workers, ``work`` and the pieces must be picklable; results are the same, since a
    piece holds all that its result depends on. What is left is dropped when the caller stops.
    """
    if num_workers == 1 or len(pieces) < 2:
        yield from map(work, pieces)
        return
    others = set(active_children())
    # A fresh interpreter each: forking a process that has threads may leave its locks held.
    pool = ProcessPoolExecutor(min(num_workers, len(pieces)), get_context("spawn"),
                               initializer=_end_on_interrupt)
    try:
        yield from pool.map(work, pieces)
    except BaseException:
        for worker in set(active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_on_interrupt() -> None:
    """Ctrl-C reaches every process of a terminal; only the first says so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
