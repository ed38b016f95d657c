"""Doubtful parts of a bundle: names that lead nowhere, values that upstream replaces.

Upstream accepts them silently, and plans go on as its plans do. Servers whose own references lead
nowhere are not here: the plan itself states the reason.
"""

from collections.abc import Callable, Iterable
from typing import Any

from penstock.core.errors import nearest
from penstock.published.inferno.values import LOWEST_PRIORITY, POLICIES, System


def doubts(system: System) -> tuple[str, ...]:
    """One line for each kind of fault, with the nearest name that is there."""
    accelerators, pools = system.accelerators, system.capacity
    models = {profile.model for profile in system.profiles.values()}
    found = (
        _dangling("model-data: acc", (
            (f"{p.model!r}", p.accelerator) for p in system.profiles.values()), accelerators,
            "is no accelerator, so this profile is never used"),
        "" if pools is None else _dangling("accelerator-data: type", (
            (f"{a.name!r}", a.type) for a in accelerators.values()), pools,
            "has no count in capacity-data, so there are no devices of it"),
        _dangling("serviceclass-data: model", (
            (f"class {c.name!r}", model) for c in system.service_classes.values()
            for model in c.targets), models, "has no performance data"),
        _dangling("server-data: currentAlloc accelerator", (
            (f"{s.name!r}", s.current.accelerator) for s in system.servers.values()
            if s.current.accelerator), accelerators,
            "is no accelerator, so moving away from it counts as a change"),
        _many([(f"class {c.name!r}", c.stated_priority) for c in system.service_classes.values()
               if c.stated_priority not in (None, c.priority)],
              lambda value: f"serviceclass-data: priority {value} counts as {LOWEST_PRIORITY}, the "
              f"lowest; expected 1 to {LOWEST_PRIORITY}"),
        _policy(system.options.stated_policy))
    return tuple(filter(None, found))


def _dangling(field: str, references: Iterable[tuple[str, str]], valid: Iterable[str],
              meaning: str) -> str:
    known = set(valid)
    return _many([(holder, name) for holder, name in references if name not in known],
                 lambda name: f"{field} {name!r} {meaning}{nearest(name, known)}")


def _many(faults: list[tuple[str, Any]], worded: Callable[[Any], str]) -> str:
    """The first fault in full and how many others there are; empty when there is none."""
    if not faults:
        return ""
    holder, value = faults[0]
    more = f"; {len(faults) - 1} more like it" if len(faults) > 1 else ""
    return f"{worded(value)} ({holder}{more})"


def _policy(stated: str) -> str:
    if not stated or stated in POLICIES:
        return ""
    return (f"optimizer-data: saturationPolicy {stated[:60]!r} counts as None"
            f"{nearest(stated[:60], POLICIES)}")
