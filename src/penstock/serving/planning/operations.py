"""Every endpoint that takes a body, in the order of the documentation."""

from penstock.serving.planning import inferno, queue
from penstock.serving.planning.operation import Operation

OPERATIONS: tuple[Operation, ...] = (*queue.OPERATIONS, *inferno.OPERATIONS)
