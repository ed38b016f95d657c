"""Service-level objectives and the traffic classes that have them."""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from penstock.core.value import made_again

ItlMode: TypeAlias = Literal["paced", "strict", "mean"]
ITL_MODES: Final[tuple[ItlMode, ...]] = ("paced", "strict", "mean")


@dataclass(frozen=True, slots=True)
class Slo:
    """Targets of one request, and of its session, in seconds; ``None`` means no target.

    ``percentile`` binds twice, with one meaning: a request keeps its token pace when at most
    (100 - percentile) % of its tokens (paced) or gaps (strict) are late, and a class meets its
    objective when at least ``percentile`` % of the requests it received met every target. A mean
    ITL (TPOT) holds for a request's mean gap, so there ``percentile`` binds only once: all gaps of
    a request are late, or none is. ``task_s`` is the target of a session as a whole, from its first
    arrival to its last token, and ``percentile`` the share of sessions that must meet the target.
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None
    itl: ItlMode = "paced"
    percentile: float = 99.0
    task_s: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    @property
    def allowed_misses(self) -> float:
        """Share of a class's requests that may miss."""
        return 1.0 - self.percentile / 100.0

    def late_allowance(self, num_tokens: int) -> int:
        """How many of ``num_tokens`` may be late before the pace counts as missed."""
        if self.itl == "mean":
            return 0
        # The small term absorbs rounding: 1 % of 100 tokens is one token.
        return int(num_tokens * (100.0 - self.percentile) / 100.0 + 1e-9)


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """A named kind of traffic. A lower ``priority`` number is more urgent; ``weight`` is the value
    of one request that meets its targets, relative to other classes. Every request of a
    ``confidential`` class is confidential. A request may be held back for ``defer_s`` before it is
    sent, None where it is sent at once."""

    name: str
    slo: Slo = Slo()
    priority: int = 1
    weight: float = 1.0
    confidential: bool = False
    defer_s: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)
