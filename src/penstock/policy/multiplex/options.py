"""Knobs of Penstock's multiplexing policy."""

from dataclasses import dataclass

from penstock.core.errors import InputError


@dataclass(frozen=True, slots=True)
class MultiplexOptions:
    """``max_batches``: how many batches of a visit are looked at. ``horizon_s``: for how long
    arrivals are expected to go on, in what a visit would bring. ``margin``: what batches are taken
    to last beyond belief, as a share, before a deadline. ``shed``: whether the hopeless are turned
    away. ``prefetch``: whether models are read ahead into the host's memory."""

    max_batches: int = 8
    horizon_s: float = 30.0
    margin: float = 0.05
    shed: bool = True
    prefetch: bool = True

    def __post_init__(self) -> None:
        if self.max_batches < 1 or self.horizon_s < 0.0 or self.margin < 0.0:
            raise InputError(f"max_batches {self.max_batches}, horizon_s {self.horizon_s:g}, "
                             f"margin {self.margin:g}: expected at least 1, 0 and 0")


USUAL = MultiplexOptions()
