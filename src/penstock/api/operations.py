"""Every endpoint that takes a body, in the order of the documentation."""

from penstock.api import inferno, queue
from penstock.api.operation import Operation

OPERATIONS: tuple[Operation, ...] = (*queue.OPERATIONS, *inferno.OPERATIONS)
