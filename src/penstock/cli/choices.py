"""Policies as options name them."""

from pathlib import Path
from typing import Any

from penstock.core.errors import InputError

_ENDINGS = (".yaml", ".yml", ".json")


def scale_choice(label: str) -> str | dict[str, Any]:
    """Return a scale policy as a fleet file has it: a name alone, for which the file's settings
    count, a name with settings, or an autoscaler's own file. Raises InputError."""
    if label.endswith(_ENDINGS) or "/" in label.partition(":")[0]:
        return {"file": str(Path(label).expanduser().resolve())}
    choice = choice_of(label)
    return choice["name"] if len(choice) == 1 else choice


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
