"""All endpoints that take a body, in the order of the documentation."""

import multiprocessing
import os
import signal
import threading
from typing import Any

from penstock.registry.sources import PLANNING
from penstock.serving.planning.operation import Answer, Operation

OPERATIONS: tuple[Operation, ...] = tuple(
    operation for name in PLANNING.names() for operation in PLANNING.load(name))


def call_operation(path: str, document: Any) -> Answer:
    """Return the answer of the operation with that path, for worker processes, to which functions
    cannot be sent."""
    return next(one for one in OPERATIONS if one.path == path).call(document)


def begin_process() -> None:
    """Prepare a worker process: the server handles Ctrl-C, and the process ends with the server,
    even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
