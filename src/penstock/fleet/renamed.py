"""Old keys of the fleet file, which work for one more release with a warning on stderr."""

import sys
from collections.abc import Mapping
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.marked_yaml import MarkedData, Path
from penstock.policy.schedule.options import OLD_KNOBS

# (section, old key) -> key; the section is the nearest enclosing key, empty at the top level.
RENAMED: Mapping[tuple[str, str], str] = {
    ("", "residency"): "multiplexing",
    **{("schedule", old): new for old, new in OLD_KNOBS.items()},
}


def current_keys(marked: MarkedData) -> MarkedData:
    """Return the data with every old key under its current name, on the line where it stands.

    Raises InputError where a section has both names of a key.
    """
    moved: dict[Path, Path] = {}
    data = _current(marked.data, (), (), marked, moved)
    if not moved:
        return marked
    _tell({(str(old[-1]), str(new[-1])) for old, new in moved.items()})
    lines = {_moved(path, moved): line for path, line in marked.lines.items()}
    return MarkedData(data, lines, marked.source, marked.overridden)


def current_path(parts: list[str]) -> list[str]:
    """Return the parts of an override's path with every old key under its current name."""
    found, section, renames = [], "", set()
    for part in parts:
        name = RENAMED.get((section, part), part)
        if name != part:
            renames.add((part, name))
        if not part.isdecimal():
            section = name
        found.append(name)
    _tell(renames)
    return found


def _current(node: Any, path: Path, new_path: Path, marked: MarkedData,
             moved: dict[Path, Path]) -> Any:
    if isinstance(node, list):
        return [_current(child, (*path, i), (*new_path, i), marked, moved)
                for i, child in enumerate(node)]
    if not isinstance(node, dict):
        return node
    section = next((str(part) for part in reversed(new_path) if isinstance(part, str)), "")
    found: dict[Any, Any] = {}
    for key, child in node.items():
        name = RENAMED.get((section, key), key) if isinstance(key, str) else key
        if name != key:
            if name in node:
                raise InputError(f"{marked.place((*path, key))}: {key} is the old name of {name}, "
                                 "which is there too; expected one of them")
            moved[(*path, key)] = (*new_path, name)
        found[name] = _current(child, (*path, key), (*new_path, name), marked, moved)
    return found


def _moved(path: Path, moved: Mapping[Path, Path]) -> Path:
    """Return the path in the current data for a path in the file."""
    for length in range(len(path), 0, -1):
        new = moved.get(path[:length])
        if new is not None:
            return (*new, *path[length:])
    return path


def _tell(renames: set[tuple[str, str]]) -> None:
    for old, new in sorted(renames):
        sys.stderr.write(f"fleet file: {old} is now {new}; the old key goes with the next "
                         "release\n")
