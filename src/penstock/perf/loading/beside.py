"""A load beside compute: how much each slows the other down."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.perf.loading.values import LoadTime


@dataclass(frozen=True, slots=True)
class Interference:
    """Slowdowns of a load and of compute while both run; none by default.

    ``load_slowdown``: reading and copying take so much longer, as a share (0.1 = 10 %), while the
    device computes; ``compute_slowdown`` the other way round. ``fixed_blocks`` is the share of the
    load's fixed part (process, tokenizer, Python) in which compute stands still: 0 where the loader
    is a process with cores of its own, 1 where one interpreter does both.
    """

    load_slowdown: float = 0.0
    compute_slowdown: float = 0.0
    fixed_blocks: float = 0.0

    def __post_init__(self) -> None:
        for name in ("load_slowdown", "compute_slowdown"):
            if not getattr(self, name) >= 0.0:
                raise InputError(f"{name}: {getattr(self, name):g}; expected at least 0")
        if not 0.0 <= self.fixed_blocks <= 1.0:
            raise InputError(f"fixed_blocks: {self.fixed_blocks:g}; expected 0 to 1")


INDEPENDENT = Interference()


class Beside(NamedTuple):
    """When the load and the compute are over, in seconds after both began."""

    loaded_s: float
    computed_s: float


def beside(load: LoadTime, compute_s: float, interference: Interference = INDEPENDENT) -> Beside:
    """Begin a load and ``compute_s`` of compute at the same time.

    The load's fixed parts come first, then reading and copying.
    """
    fixed_s = min(load.total_s, load.parts.get("fixed_s", 0.0) + load.parts.get("first_s", 0.0))
    moving_s = load.total_s - fixed_s
    awake = 1.0 - interference.fixed_blocks
    if compute_s <= fixed_s * awake:
        return Beside(load.total_s, compute_s / awake if compute_s else 0.0)
    left_s = compute_s - fixed_s * awake
    loads, computes = 1.0 + interference.load_slowdown, 1.0 + interference.compute_slowdown
    if moving_s * loads <= left_s * computes:  # the load is over first
        moved_s = moving_s * loads
        return Beside(fixed_s + moved_s, fixed_s + moved_s + left_s - moved_s / computes)
    computed_s = left_s * computes
    return Beside(fixed_s + computed_s + moving_s - computed_s / loads, fixed_s + computed_s)
