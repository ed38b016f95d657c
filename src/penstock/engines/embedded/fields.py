"""Objectives in a client's request, read inside the engine.

Engines pass a mapping of plain values (vLLM's ``vllm_xargs``). An error can no longer be reported
to the client, so invalid values are ignored.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from penstock.core.slo import ServiceClass, Slo

_TARGETS = ("ttft_s", "itl_s", "e2e_s")
_MOST_SESSION = 200  # characters


class ServiceClasses:
    """The classes that requests may name. ``default`` is for requests that name none or an unknown
    one.

    A request's own targets (``ttft_s``, ``itl_s``, ``e2e_s``) replace those of its class. Decodes
    of one class advance together at one pace, so a request with its own pace gets its own class.
    Paces are rounded down to two digits, and there are at most ``MOST`` classes; beyond them the
    pace of the named class is kept.
    """

    MOST: ClassVar[int] = 256

    def __init__(self, classes: tuple[ServiceClass, ...], default: ServiceClass) -> None:
        self._named = {one.name: one for one in (default, *classes)}
        self._by_priority = {one.priority: one for one in reversed(classes)}
        self._default = default
        self._made: set[str] = set()

    def of(self, said: Mapping[str, Any] | None, priority: int = 0) -> ServiceClass:
        """Return the class of a request: by name, else by a priority other than 0, else the
        default."""
        said = said or {}
        asked = _whole(said.get("priority"))
        if asked is None:
            asked = priority or None
        name = said.get("service_class")
        if isinstance(name, str) and name in self._named:
            base = self._named[name]
        else:
            base = self._default if asked is None else self._by_priority.get(asked, self._default)
        targets: dict[str, Any] = {target: seconds for target in _TARGETS
                                   if (seconds := _seconds(said.get(target))) is not None}
        if asked is not None and asked != base.priority:
            base = replace(base, priority=asked)
        return self._with_targets(base, targets) if targets else base

    def _with_targets(self, base: ServiceClass, targets: dict[str, Any]) -> ServiceClass:
        slo = replace(base.slo, **targets)
        pace = slo.itl_s
        if pace is not None and pace != base.slo.itl_s:
            pace = _two_digits(pace)
        name = base.name
        if _kind(replace(slo, itl_s=pace)) != _kind(base.slo):
            name = f"{base.name}@{'end' if pace is None else format(pace, 'g')}"
            if name not in self._made and len(self._made) >= self.MOST:
                return replace(base, slo=replace(slo, itl_s=base.slo.itl_s))
            self._made.add(name)
        return replace(base, name=name, slo=replace(slo, itl_s=pace))


def session_of(said: Mapping[str, Any] | None) -> str:
    """Return the session that a request states, empty without one."""
    found = (said or {}).get("session")
    return found if isinstance(found, str) and len(found) <= _MOST_SESSION else ""


def _kind(slo: Slo) -> tuple[float | None, bool]:
    """Return the key that members of one decode group share: the pace, and whether only the last
    token has a deadline."""
    return slo.itl_s, slo.itl_s is None and slo.e2e_s is not None


def _number(value: Any) -> float | None:
    """Return ``value`` as a finite number, also from its text; None where it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _two_digits(seconds: float) -> float:
    """Round down to two digits: a faster pace never causes a miss."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return float(f"{math.floor(seconds / unit + 1e-9) * unit:.2g}")
