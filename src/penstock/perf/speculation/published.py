"""Published acceptance of drafts, by name."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from penstock.core.errors import InputError, nearest
from penstock.perf.speculation.acceptance import Acceptance, from_lengths

_FAMILIES = {"deepseek-r1": "deepseek-v3"}
"""Models whose drafts come with the weights of another."""


class PublishedAcceptance(NamedTuple):
    """Acceptance that was measured for a model and a method."""

    name: str
    model: str
    method: str
    acceptance: Acceptance


def published_acceptance(name: str) -> Acceptance:
    """Return a published acceptance. Raises InputError with the nearest name for an unknown one."""
    found = _entries().get(name)
    if found is None:
        raise InputError(f"unknown acceptance {name!r}{nearest(name, _entries())}")
    return found.acceptance


def published_name(acceptance: Acceptance) -> str | None:
    """Return the name of a published acceptance, None for one of another source."""
    return next((one.name for one in _entries().values() if one.acceptance == acceptance), None)


def acceptance_of(model: str, method: str) -> PublishedAcceptance | None:
    """Return what was published for a model and a method, None without anything. Of several, the
    first of the file."""
    wanted = _FAMILIES.get(model, model)
    return next((one for one in _entries().values()
                 if (one.model, one.method) == (wanted, method)), None)


@cache
def _entries() -> Mapping[str, PublishedAcceptance]:
    text = resources.files("penstock.perf").joinpath("data/acceptance.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.load(text,
                                         Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: PublishedAcceptance(
        name, entry["model"], entry["method"],
        from_lengths(_by_depth(entry["lengths"]),
                     entry.get("source", document["golden"])))
        for name, entry in document["entries"].items()}


def _by_depth(lengths: list[float] | dict[int, float]) -> dict[int, float]:
    """Return lengths by drafted tokens: a list begins with one token."""
    return lengths if isinstance(lengths, dict) else dict(enumerate(lengths, 1))
