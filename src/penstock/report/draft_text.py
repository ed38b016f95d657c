"""A drafted fleet file as YAML text for people to read and change, and what was assumed in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.report.yaml_text import flow, section


def draft_text(data: Mapping[str, Any], assumed: Sequence[tuple[str, str, str]],
               heading: str = "") -> str:
    """The text of the fleet file, a line per entry; ``heading`` is its first comment."""
    lines = [heading] if heading else []
    if assumed:
        lines += ["Assumed; change what differs from yours:",
                  *(f"  {what}: {value}" for what, value, _ in assumed)]
    text = "".join(f"# {line}\n" for line in lines)
    for name, value in data.items():
        text += section(name, value) if isinstance(value, list) else f"{name}: {flow(value)}\n"
    return text


def assumed_lines(assumed: Sequence[tuple[str, str, str]]) -> list[str]:
    """The assumptions for a terminal: each with the option or field that states another value."""
    if not assumed:
        return []
    wide = max(len(f"{what}: {value}") for what, value, _ in assumed)
    return ["Not stated, so assumed:",
            *(f"  {f'{what}: {value}':<{min(wide, 72)}}  ({option})"
              for what, value, option in assumed)]
