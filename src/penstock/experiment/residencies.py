"""Residency policies as the command line names them: ``longest-queue:shed=true``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.fleet.settings import parse_value
from penstock.policy.multiplex.build import ResidencySettings
from penstock.policy.multiplex.settings import RESIDENCIES, residency_settings
from penstock.policy.multiplex.sincere import STRATEGIES, SincereSettings


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy by name, with the settings that were given."""

    label: str
    name: str
    given: Mapping[str, Any]

    def settings(self, sincere: SincereSettings) -> ResidencySettings:
        """What the policy is built with; ``sincere`` are the usual ones of SINCERE's strategies."""
        if self.name in STRATEGIES:
            return ResidencySettings(sincere=replace(sincere, **self.given))
        return residency_settings(self.name, self.given, (), (), sincere.sla_s)


def contender(label: str) -> Contender:
    """A policy from its text. Raises InputError for what is unknown, and for a value that the
    setting does not take."""
    name, *parts = label.split(":")
    if name not in RESIDENCIES:
        raise InputError(f"policy {name!r} is unknown{nearest(name, RESIDENCIES)}")
    given: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals:
            raise InputError(f"policy {label}: found {part!r}; expected KEY=VALUE")
        if key not in RESIDENCIES[name]:
            raise InputError(f"policy {label}: {name} has no setting {key!r}"
                             f"{nearest(key, RESIDENCIES[name])}")
        if key in given:
            raise InputError(f"policy {label}: {key!r} stands twice; expected one value")
        given[key] = parse_value(text, f"policy {label}")
        if problem := RESIDENCIES[name][key].problem(given[key]):
            raise InputError(f"policy {label}: {key} is {given[key]!r}; {problem}")
    return Contender(label, name, given)
