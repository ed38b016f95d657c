"""Work that takes time by a clock of its own, importable as tasks need it."""


class Clock:
    """Seconds that pass only by work."""

    now_s = 0.0


CLOCK = Clock()


def work(seconds: float) -> float:
    CLOCK.now_s += seconds
    return seconds
