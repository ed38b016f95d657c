"""Residency policies as the command line names them: ``longest-queue:shed=true``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from penstock.core.errors import InputError, nearest
from penstock.policy.residency.build import NAMES, ORDERS, PENSTOCK, ResidencySettings
from penstock.policy.residency.penstock import ResidencyOptions
from penstock.policy.residency.sincere import STRATEGIES, SincereSettings

_PENSTOCK = ("max_batches", "horizon_s", "margin", "shed", "prefetch")
_SINCERE = ("deviations", "overwrite", "charge_resident", "select_by", "max_batch", "completion_s",
            "least_timer_s", "poll_s", "stay_s")
_ORDER = ("shed", "cost_aware")
Settings = TypeVar("Settings", ResidencyOptions, ResidencySettings, SincereSettings)
_WORDS = {"true": True, "false": False, "none": None}
_CHOICES = {"select_by": ("room", "sla")}


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy by name, with the knobs that were turned."""

    label: str
    name: str
    knobs: Mapping[str, Any]

    def settings(self, sincere: SincereSettings | None = None) -> ResidencySettings:
        """What the policy is built with; ``sincere`` are the usual ones of SINCERE's strategies.
        Raises InputError for a knob whose value the policy does not take."""
        if self.name == PENSTOCK:
            return ResidencySettings(penstock=_replaced(self.label, ResidencyOptions(), self.knobs))
        if self.name in STRATEGIES:
            return ResidencySettings(sincere=sincere and _replaced(self.label, sincere, self.knobs))
        return _replaced(self.label, ResidencySettings(), self.knobs)


def contender(label: str) -> Contender:
    """A policy from its text. Raises InputError for a name or knob that is unknown."""
    name, *parts = label.split(":")
    if name not in NAMES:
        raise InputError(f"policy {name!r} is unknown{nearest(name, NAMES)}")
    knobs: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals:
            raise InputError(f"policy {label}: {part!r}; expected KEY=VALUE")
        if key not in knob_names(name):
            raise InputError(f"policy {label}: {name} has no setting {key!r}"
                             f"{nearest(key, knob_names(name))}")
        knobs[key] = _value(text)
    return Contender(label, name, knobs)


def knob_names(name: str) -> tuple[str, ...]:
    """What may be set of a policy."""
    if name == PENSTOCK:
        return _PENSTOCK
    if name in ORDERS:
        return (*_ORDER, "quantum_s") if name == "round-robin" else _ORDER
    return _SINCERE


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _replaced(label: str, usual: Settings, knobs: Mapping[str, Any]) -> Settings:
    for key, value in knobs.items():
        before = getattr(usual, key)
        expected = ("true or false" if isinstance(before, bool) else
                    " or ".join(_CHOICES[key]) if key in _CHOICES else
                    "a whole number from 1, or none" if before is None else
                    "a whole number from 1" if isinstance(before, int) else "a number from 0")
        if not _fits(key, before, value):
            raise InputError(f"policy {label}: {key} is {value!r}; expected {expected}")
    return replace(usual, **knobs)


def _fits(key: str, before: Any, value: Any) -> bool:
    if isinstance(before, bool) or isinstance(value, bool):
        return isinstance(before, bool) and isinstance(value, bool)
    if key in _CHOICES:
        return value in _CHOICES[key]
    if before is None or (isinstance(before, int) and key != "quantum_s"):
        return (before is None and value is None) or (isinstance(value, int) and value >= 1)
    return isinstance(value, int | float) and value >= 0
