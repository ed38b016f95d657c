"""Every endpoint that takes a body, in the order of the documentation."""

from typing import Any

from penstock.serving.planning import inferno, queue
from penstock.serving.planning.operation import Answer, Operation

OPERATIONS: tuple[Operation, ...] = (*queue.OPERATIONS, *inferno.OPERATIONS)


def call_operation(path: str, document: Any) -> Answer:
    """The answer of the operation with that path, for processes that cannot be sent functions."""
    return next(one for one in OPERATIONS if one.path == path).call(document)
