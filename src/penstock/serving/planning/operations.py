"""Every endpoint that takes a body, in the order of the documentation."""

from penstock.registry.sources import PLANNING
from penstock.serving.planning.operation import Operation

OPERATIONS: tuple[Operation, ...] = tuple(
    operation for name in PLANNING.names() for operation in PLANNING.load(name))
