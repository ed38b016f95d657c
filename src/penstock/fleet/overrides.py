"""Values that replace the file's own, such as ``traffic[0].rate_per_s`` = 4."""

import re
from collections.abc import Mapping
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.marked_yaml import MAX_DEPTH, MarkedData, Path
from penstock.fleet.problems import quote
from penstock.fleet.renamed import current_path

_PARTS = re.compile(r"[^.\[\]]+")


def overridden(marked: MarkedData, overrides: Mapping[str, Any]) -> MarkedData:
    """Return the data with each dotted path set to its value. Missing sections are created.

    A setting of an entry given only by name (``policies.schedule.chunk_tokens``) keeps the name.
    Raises InputError for an invalid path.
    """
    data, paths = marked.data, []
    for dotted, value in overrides.items():
        parts = _PARTS.findall(dotted)
        if not parts or len(parts) > MAX_DEPTH:
            raise InputError(f"override {quote(dotted)}: expected a path such as run.seed")
        data, path = _with_value(data, current_path(parts), value, (), dotted)
        paths.append(path)
    return MarkedData(data, marked.lines, marked.source, (*marked.overridden, *paths))


def _with_value(node: Any, parts: list[str], value: Any, path: Path,
                dotted: str) -> tuple[Any, Path]:
    """Return a copy of ``node`` with one value set, so that YAML aliases of the node do not
    change."""
    if not parts:
        return value, path
    head, rest = parts[0], parts[1:]
    if isinstance(node, list):
        if not head.isdecimal() or int(head) >= len(node):
            raise InputError(f"override {quote(dotted)}: {quote(head)} is no entry of a list of "
                             f"{len(node)}, counted from 0")
        index = int(head)
        child, path = _with_value(node[index], rest, value, (*path, index), dotted)
        return [*node[:index], child, *node[index + 1:]], path
    if isinstance(node, str):
        node = {"name": node}
    if node is None:
        node = {}
    if not isinstance(node, dict):
        raise InputError(f"override {quote(dotted)}: {quote(head)} would lie within {quote(node)}")
    child, path = _with_value(node.get(head), rest, value, (*path, head), dotted)
    return {**node, head: child}, path
