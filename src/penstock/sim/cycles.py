"""Suspension of the garbage collector in event loops that create no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_cycle_search() -> Iterator[None]:
    """Suspend the search for cycles, which would visit every live request repeatedly and take an
    eighth of the run time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # Let all objects so far count as old, so that they are not visited at once.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
