"""Every endpoint that takes a body, in the order of the documentation."""

from typing import Any

from penstock.registry.sources import PLANNING
from penstock.serving.planning.operation import Answer, Operation

OPERATIONS: tuple[Operation, ...] = tuple(
    operation for name in PLANNING.names() for operation in PLANNING.load(name))


def call_operation(path: str, document: Any) -> Answer:
    """Return the answer of the operation with that path, for processes that cannot be sent
    functions."""
    return next(one for one in OPERATIONS if one.path == path).call(document)
