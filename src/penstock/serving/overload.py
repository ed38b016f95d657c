"""Guard against overload: sheds requests by class before the process runs out of time or memory.

Three figures are measured: how late the event loop is, the memory of the process, and the bytes of
request bodies that are in memory. Each is a share of its limit, and the largest share is the
pressure. The decision by pressure and priority is a pure function.
"""

import asyncio
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from penstock.core.slo import ServiceClass
from penstock.fleet.values_gateway import Tenant
from penstock.serving.errors import ServiceError

UNKNOWN = "unknown"
"""Class of a request whose headers and tenant do not tell its class."""

_FIRST_SHED = 0.7  # pressure at which the least urgent class is shed
_TICK_S = 0.05
_NEWEST = 0.2  # weight of the newest lag in the mean
_MACHINE_SHARE = 0.5  # of the memory of the machine or control group: engines need some, too
_BODIES_SHARE = 0.25  # of the memory of the process: a parsed body takes several times its bytes


@dataclass(frozen=True, slots=True)
class OverloadLimits:
    """Limits of the event loop's mean lag, of the process's memory, and of all request bodies in
    memory together."""

    lag_s: float
    resident_bytes: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """Measured figures, in the units of ``OverloadLimits``."""

    lag_s: float = 0.0
    resident_bytes: int = 0
    body_bytes: int = 0


def default_limits(max_memory_bytes: int | None = None, num_processes: int = 1) -> OverloadLimits:
    """Return the limits for a process of at most ``max_memory_bytes``, None for a share of the
    machine's memory, which ``num_processes`` share."""
    memory_bytes = max_memory_bytes or int(_MACHINE_SHARE * machine_bytes() / num_processes)
    return OverloadLimits(0.5, memory_bytes, int(_BODIES_SHARE * memory_bytes))


def pressures(load: Load, limits: OverloadLimits) -> dict[str, float]:
    """Return each figure as a share of its limit."""
    return {"event_loop": load.lag_s / limits.lag_s,
            "memory": load.resident_bytes / limits.resident_bytes,
            "bodies": load.body_bytes / limits.body_bytes}


def shed_from(priority: int | None, priorities: frozenset[int]) -> float:
    """Return the pressure from which requests of a priority are shed: 1 for the most urgent of
    ``priorities`` and for an unknown one (None), less for the others."""
    others = sorted(priorities)
    if priority is None or priority not in priorities or len(others) == 1:
        return 1.0
    return 1.0 - (1.0 - _FIRST_SHED) * others.index(priority) / (len(others) - 1)


def next_lag_s(mean_s: float, late_s: float, limit_s: float) -> float:
    """Return the mean lag after one more wake-up that came ``late_s`` late. One long stall alone
    is no overload."""
    return mean_s + _NEWEST * (min(max(late_s, 0.0), 2.0 * limit_s) - mean_s)


class BodyHold:
    """Bytes of one request's body, counted until the context ends."""

    __slots__ = ("_guard", "num_bytes")

    def __init__(self, guard: "OverloadGuard") -> None:
        self._guard = guard
        self.num_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.give_back(self.num_bytes)

    def add(self, num_bytes: int) -> None:
        """Count more bytes. Raises ServiceError where all bodies together exceed the limit."""
        self._guard.take(num_bytes)
        self.num_bytes += num_bytes


class OverloadGuard:
    """Measures this process and sheds requests. One event loop owns the guard. ``classes`` are the
    service classes on offer."""

    def __init__(self, limits: OverloadLimits, classes: Callable[[], Mapping[str, ServiceClass]],
                 clock: Callable[[], float]) -> None:
        self.limits = limits
        self.turns = asyncio.Lock()
        """Held while a large body is parsed, so that the event loop serves others in between."""
        self.num_shed: Counter[str] = Counter()
        self._classes = classes
        self._clock = clock
        self._lag_s = 0.0
        self._resident_bytes = 0
        self._body_bytes = 0
        self._calm = False

    @property
    def load(self) -> Load:
        """The present figures."""
        return Load(self._lag_s, self._resident_bytes, self._body_bytes)

    async def run(self) -> None:
        """Measure on and on."""
        while True:
            due_s = self._clock() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._lag_s = next_lag_s(self._lag_s, self._clock() - due_s, self.limits.lag_s)
            self._resident_bytes = resident_bytes()
            self._calm = max(pressures(self.load, self.limits).values()) < _FIRST_SHED

    def check_before_body(self, name: str | None, tenant: Tenant) -> None:
        """Shed a request before its body is read, by the class that its header ``name`` or the
        tenant's defaults tell. Raises ServiceError."""
        name = name or tenant.defaults.service_class
        self._check(None if name is None else self._classes().get(name))

    def check(self, service_class: ServiceClass) -> None:
        """Shed a request whose class is known. Raises ServiceError."""
        self._check(service_class)

    def body(self) -> BodyHold:
        """Return a count of one body's bytes."""
        return BodyHold(self)

    def take(self, num_bytes: int) -> None:
        """Count more bytes of a body. Raises ServiceError above the limit."""
        if self._body_bytes + num_bytes > self.limits.body_bytes:
            raise self._shed("bodies", UNKNOWN)
        self._body_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Count bytes of a body that has ended no longer."""
        self._body_bytes -= num_bytes

    def document(self, pad: Callable[[int], int]) -> dict[str, object]:
        """Return the pressures, rounded up to 5 %, and the number of shed requests by class."""
        return {"pressures": {name: math.ceil(share * 20) / 20
                              for name, share in pressures(self.load, self.limits).items()},
                "max_resident_bytes": self.limits.resident_bytes,
                "max_body_bytes": self.limits.body_bytes,
                "num_shed": {name: pad(number) for name, number in self.num_shed.items()}}

    def _check(self, service_class: ServiceClass | None) -> None:
        # A calm process must not pay for the guard: these are two comparisons for each request.
        if self._calm and self._body_bytes < _FIRST_SHED * self.limits.body_bytes:
            return
        cause, pressure = max(pressures(self.load, self.limits).items(), key=lambda one: one[1])
        if pressure < _FIRST_SHED:
            return
        priorities = frozenset(one.priority for one in self._classes().values())
        priority = None if service_class is None else service_class.priority
        if pressure >= shed_from(priority, priorities):
            raise self._shed(cause, UNKNOWN if service_class is None else service_class.name)

    def _shed(self, cause: str, name: str) -> ServiceError:
        self.num_shed[name] += 1
        what = {"event_loop": "its event loop is late", "memory": "its memory is nearly used up",
                "bodies": "request bodies take as much memory as they may"}[cause]
        return ServiceError(503, f"the gateway is overloaded: {what}; try again in 1 s",
                            "overloaded", headers={"Retry-After": "1", "Connection": "close"})


def resident_bytes() -> int:
    """Return the memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_bytes(root: Path = Path("/")) -> int:
    """Return the memory that this process may have: the machine's, or less by its control
    group."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _control_group_files(root):
        try:
            found.append(int((root / file).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(one for one in found if one > 0)


def _control_group_files(root: Path) -> Iterator[str]:
    """Yield the files of the memory limits of this process's control group and those around it."""
    yield "sys/fs/cgroup/memory/memory.limit_in_bytes"  # version 1
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            for folder in (Path(group), *Path(group).parents):
                yield f"sys/fs/cgroup/{str(folder).strip('/')}/memory.max"
