"""Settings of Penstock's multiplexing policy."""

from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.core.value import made_again


@dataclass(frozen=True, slots=True)
class MultiplexOptions:
    """``max_batches``: batches of a visit that are evaluated. ``horizon_s``: time for which
    arrivals are extrapolated in the value of a visit. ``margin``: share added to believed batch
    times before a deadline. ``shed``: whether infeasible requests are shed. ``prefetch``: whether
    models are read ahead into host memory."""

    max_batches: int = 8
    horizon_s: float = 30.0
    margin: float = 0.05
    shed: bool = True
    prefetch: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    def __post_init__(self) -> None:
        if self.max_batches < 1 or self.horizon_s < 0.0 or self.margin < 0.0:
            raise InputError(f"max_batches {self.max_batches}, horizon_s {self.horizon_s:g}, "
                             f"margin {self.margin:g}: expected at least 1, 0 and 0")


USUAL = MultiplexOptions()
