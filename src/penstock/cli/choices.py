"""Policies as options name them."""

from typing import Any

from penstock.core.errors import InputError


def choice_of(label: str) -> dict[str, Any]:
    """Return a policy ``name:key=value...`` as a fleet file has it. Raises InputError."""
    from penstock.fleet.settings import parse_value

    name, *knobs = label.split(":")
    choice: dict[str, Any] = {"name": name}
    for knob in knobs:
        key, equals, text = knob.partition("=")
        if not equals:
            raise InputError(f"found {knob!r}; expected key=value after ':'")
        if key.strip() in choice:
            raise InputError(f"{key.strip()!r} appears twice; expected one value")
        choice[key.strip()] = parse_value(text, key)
    return choice
