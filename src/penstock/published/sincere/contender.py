"""Multiplexer policies as the command line names them: ``longest-queue:shed=true``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.errors import InputError
from penstock.core.settings import unknown_setting
from penstock.fleet.settings import parse_value
from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import HostedModel
from penstock.published.sincere.policy import STRATEGIES, Sincere, SincereSettings
from penstock.registry.make import make_multiplexer
from penstock.registry.policies import MULTIPLEXERS


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy by name, with the settings that were given."""

    label: str
    name: str
    given: Mapping[str, Any]

    def policy(self, models: Sequence[HostedModel], loads: LoadBelief,
               sincere: SincereSettings) -> Multiplexer:
        """The policy; ``sincere`` are the usual settings of SINCERE's strategies."""
        if self.name in STRATEGIES:
            return Sincere(STRATEGIES[self.name], replace(sincere, **self.given))
        context = MultiplexContext(models, loads, sla_s=sincere.sla_s)
        return make_multiplexer(self.name, self.given, context)


def contender(label: str) -> Contender:
    """A policy from its text. Raises InputError for what is unknown, and for a value that the
    setting does not take."""
    name, *parts = label.split(":")
    if not MULTIPLEXERS.knows(name):
        raise InputError(f"policy {name!r} is unknown{MULTIPLEXERS.nearest(name)}")
    known = MULTIPLEXERS.entry(name).settings
    given: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals:
            raise InputError(f"policy {label}: found {part!r}; expected KEY=VALUE")
        if key not in known:
            raise InputError(f"policy {label}: {name} has no setting {key!r}"
                             f"{unknown_setting(key, known)}")
        if key in given:
            raise InputError(f"policy {label}: {key!r} appears twice; expected one value")
        given[key] = parse_value(text, f"policy {label}")
        if problem := known[key].problem(given[key]):
            raise InputError(f"policy {label}: {key} is {given[key]!r}; {problem}")
    return Contender(label, name, given)
