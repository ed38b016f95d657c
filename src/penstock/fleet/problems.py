"""What is wrong with a fleet file, told in one line with its place and the nearest valid name."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.errors import InputError, nearest
from penstock.fleet.fields import NAME_TAG, SETTINGS_TAG
from penstock.fleet.marked_yaml import MarkedData, Path

if TYPE_CHECKING:
    from pydantic import ValidationError

_KINDS = {"int": "a whole number", "float": "a number", "string": "text", "bool": "true or false",
          "list": "a list", "dict": "a mapping", "model": "a mapping"}
_BOUNDS = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least"),
           "less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}
_MOST_SHOWN = 60


class Problem(NamedTuple):
    """One fault at one place of the document."""

    path: Path
    text: str


class PlacedError(Exception):
    """A problem met while resolving, on its way to the loader."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(path, text)


def raise_first(problems: Iterable[Problem], marked: MarkedData) -> None:
    """Raise InputError for the problem that stands first in the file, with the others' number."""
    found = sorted(problems, key=lambda problem: marked.line(problem.path))
    if not found:
        return
    path, text = found[0]
    place = f"{marked.source}:{marked.line(path)}: "
    where = f"{dotted(path)}: " if path else ""
    others = len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    raise InputError(f"{place}{where}{text}{more}")


def dotted(path: Path) -> str:
    """A path as people write it: ``service_classes[0].slo.ttft_s``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _is_plain(part) else shown(part))
    return text


def _is_plain(key: str) -> bool:
    return len(key) <= _MOST_SHOWN and key.isascii() and key.replace("-", "_").isidentifier()


def shown(value: object) -> str:
    """A value found in the file, as a short single line."""
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else value[: _MOST_SHOWN - 3] + "...")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def shape_problems(error: "ValidationError", schema: Mapping[str, Any]) -> list[Problem]:
    """Pydantic's findings in our words; ``schema`` tells which keys are valid where."""
    return [Problem(_path(item["loc"]), _reworded(dict(item), schema))
            for item in error.errors(include_url=False)]


def _path(loc: Iterable[str | int]) -> Path:
    return tuple(part for part in loc if part not in (NAME_TAG, SETTINGS_TAG, "[key]"))


def _reworded(item: dict[str, Any], schema: Mapping[str, Any]) -> str:
    kind, found, limits = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(item['loc'][-1])[:200], _keys_at(item['loc'], schema))}"
    if kind == "missing":
        return "missing; this key is required"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"expected {words} {limits[name]:,}, found {shown(found)}"
    if kind == "finite_number":
        return f"expected a finite number, found {found}"
    if kind == "literal_error":
        valid = [part.strip(" '") for part in limits["expected"].replace(" or ", ", ").split(",")]
        hint = nearest(found[:200], valid) if isinstance(found, str) else _one_of(valid)
        return f"found {shown(found)}{hint}"
    if kind == "too_short":
        return "expected at least one entry, found an empty list"
    if kind in ("string_pattern_mismatch", "string_too_short", "string_too_long"):
        return f"expected a name without spaces, at most 200 characters, found {shown(found)}"
    return f"expected {_expected(kind, item['loc'])}, found {shown(found)}"


def _one_of(valid: Iterable[str]) -> str:
    return f"; expected one of: {', '.join(valid)}"


def _expected(kind: str, loc: tuple[str | int, ...]) -> str:
    if kind == "model_type" and loc and loc[-1] == SETTINGS_TAG:
        return "a name or a mapping"
    base = kind.split("_", maxsplit=1)[0]
    return _KINDS.get(base, "a plain value")


def _keys_at(loc: tuple[str | int, ...], schema: Mapping[str, Any]) -> list[str]:
    """Valid keys of the mapping that holds the last part of ``loc``."""
    nodes = [schema]
    for part in loc[:-1]:
        if part in (NAME_TAG, SETTINGS_TAG):
            continue
        nodes = [child for node in nodes for child in _children(_spread(node, schema), part)]
    return sorted({key for node in nodes for inner in _spread(node, schema)
                   for key in inner.get("properties", ())})


def _spread(node: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema node's alternatives, with references followed."""
    if "$ref" in node:
        return _spread(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema)
    branches = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    return [inner for branch in branches for inner in _spread(branch, schema)] or [node]


def _children(nodes: Iterable[Mapping[str, Any]], part: str | int) -> list[Mapping[str, Any]]:
    if isinstance(part, int):
        return [node["items"] for node in nodes if "items" in node]
    return [node["properties"][part] for node in nodes if part in node.get("properties", {})]
