"""Batch sizes up to where memory ends: doubled until one does not fit, then halved in between."""

from collections.abc import Callable, Sequence
from itertools import count

from penstock.perf.profiles.summary import PointSummary

_FINENESS = 0.05  # of the largest size that fits; the smallest that does not is no closer


def sweep(measure: Callable[[int], PointSummary], largest: int,
          sizes: Sequence[int] = ()) -> tuple[int, int | None]:
    """Call ``measure`` with batch sizes; the largest that ran and the smallest that did not (None
    when all up to ``largest`` did).

    ``sizes`` are tried first, from the smallest on, else 1, 2, 4 and so on. Sizes above one that
    did not fit are not tried. Only a lack of memory (or the death of the process) ends the way up;
    a size that failed otherwise is skipped.
    """
    fits, too_large = 0, None
    for size in sizes or _doubled(largest):
        if size > largest:
            break
        outcome = measure(size).outcome
        if outcome == "ok":
            fits = size
        elif outcome in ("out_of_memory", "killed"):
            too_large = size
            break
    if too_large is None:
        return fits, None
    while too_large - fits > max(1, int(_FINENESS * fits)):
        size = (fits + too_large) // 2
        if measure(size).outcome == "ok":
            fits = size
        else:
            too_large = size
    return fits, too_large


def _doubled(largest: int) -> list[int]:
    found: list[int] = []
    for power in count():
        if 2 ** power >= largest:
            return [*found, largest]
        found.append(2 ** power)
    raise AssertionError
