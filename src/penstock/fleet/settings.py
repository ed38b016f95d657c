"""Parsing of settings such as ``run.seed=4`` to overrides of a fleet file."""

import re
from collections.abc import Sequence
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.marked_yaml import read_yaml


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Parse ``key=value`` texts to overrides. A later text for the same key wins. Errors name
    ``option``."""
    return {key: parse_value(text, f"{option} {key}")
            for key, text in (split_setting(setting, option) for setting in settings)}


def split_setting(setting: str, option: str = "--set") -> tuple[str, str]:
    """Return the key and the value's text."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} {setting[:60]!r}: expected KEY=VALUE, such as run.seed=7")
    return key.strip(), text


def parse_value(text: str, where: str) -> Any:
    """Parse a value in YAML notation, as in the fleet file."""
    if not text.strip():
        return None
    try:
        return read_yaml(text, where).data
    except InputError as error:
        # A setting has no line number.
        fault = re.sub(r"^:\d+", "", str(error).removeprefix(where))
        raise InputError(f"{where}={text[:60]}{fault}") from None
