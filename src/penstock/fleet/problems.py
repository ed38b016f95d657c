"""Problems of a fleet file: one line each, with the place and the nearest valid name."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.errors import InputError, nearest, one_of
from penstock.fleet.fields import LIMITS, SETTINGS_TAG, TAGS
from penstock.fleet.marked_yaml import MarkedData, Path

if TYPE_CHECKING:
    from pydantic import ValidationError

_NAME = "a name without spaces, of at most 200 characters"
_KINDS = {"int": "a whole number", "float": "a number", "string": "text", "bool": "true or false",
          "list": "a list", "dict": "a mapping", "model": "a mapping",
          "finite_number": "a finite number", "too_short": "at least one entry",
          "string_pattern_mismatch": _NAME, "string_too_short": _NAME, "string_too_long": _NAME}
_TEXTS = {"^https?://": "a URL such as http://127.0.0.1:8001, without ? and #",
          "^([0-9a-f]{2})": "16 to 64 bytes in lower-case hexadecimal digits",
          r"^[^\x00]*": "text without NUL characters",
          "^[0-9]{4}-": "a date such as 2026-01-31, or a month such as 2026-01",
          r"^[^\s\x00-\x1f\x7f](": "text of one line, of at most 200 characters",
          r"^[^\x00-\x1f\x7f]": "a path without control characters"}
"""Expected form of a text in words, by the beginning of its pattern."""
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt",
           "less_than_equal": "le"}
_MOST_SHOWN = 60


class Problem(NamedTuple):
    """One fault at one place of the document."""

    path: Path
    text: str


class PlacedError(Exception):
    """A problem found while resolving, which the loader reports."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(path, text)


def first_of(problems: Iterable[Problem], marked: MarkedData) -> InputError:
    """Return the error of the first problem in the file, with the number of others. Expects at
    least one problem."""
    found = sorted(problems, key=lambda problem: marked.line(problem.path))
    path, text = found[0]
    where = f"{dotted(path)}: " if path else ""
    others = len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    return InputError(f"{marked.place(path)}: {where}{text}{more}")


def dotted(path: Path) -> str:
    """Return a path in dotted notation: ``service_classes[0].slo.ttft_s``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _is_plain(part) else quote(part))
    return text


def _is_plain(key: str) -> bool:
    return len(key) <= _MOST_SHOWN and key.isascii() and key.replace("-", "_").isidentifier()


def figure(limit: float) -> str:
    """A bound as people write it: ``20,000`` and ``0.5``."""
    return f"{int(limit) if limit == int(limit) else limit:,}"


def quote(value: object) -> str:
    """Quote a value of the file in one short line."""
    if isinstance(value, str):
        return repr(_cut(value))
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def shape_problems(error: "ValidationError", schema: Mapping[str, Any]) -> list[Problem]:
    """Return Pydantic's errors as problems. ``schema`` has the valid keys of each place."""
    return [Problem(_path(item["loc"]), _reworded(dict(item), schema))
            for item in error.errors(include_url=False)]


def _path(loc: Iterable[str | int]) -> Path:
    return tuple(part for part in loc if part not in (*TAGS, "[key]"))


def _reworded(item: dict[str, Any], schema: Mapping[str, Any]) -> str:
    kind, loc, found, limits = item["type"], item["loc"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{nearest_key(str(loc[-1])[:200], _keys_at(loc, schema))}"
    if kind == "missing":
        return "missing; this key is required"
    if kind == "literal_error":
        return _not_among(found, limits["expected"])
    plain = kind == "model_type" and loc and loc[-1] != SETTINGS_TAG
    keys = _keys_at((*loc, ""), schema) if plain else ()
    return (f"expected {_expected(kind, loc, limits)}, found {_found(kind, found)}"
            f"{one_of(keys).replace('expected one of', 'its keys')}")


def nearest_key(name: str, keys: Iterable[str]) -> str:
    """Return a hint to the nearest key. A key without its unit (``rate`` for ``rate_per_s``) is the
    most common error."""
    key, colon, _ = name.partition(":")
    if colon:
        return f"; YAML needs a space after the colon of {key!r}{one_of(keys)}"
    longer = sorted((key for key in keys if name and key.startswith(f"{name}_")),
                    key=lambda key: "_per_" not in key)
    return f"; did you mean {longer[0]!r}?" if longer else nearest(name, keys)


def _not_among(found: object, expected: str) -> str:
    valid = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
    hint = nearest(found[:200], valid) if isinstance(found, str) else \
        f"; expected one of: {', '.join(valid)}"
    return f"found {quote(found)}{hint}"


def _found(kind: str, found: object) -> str:
    return "an empty list" if kind == "too_short" else quote(found)


def _expected(kind: str, loc: tuple[str | int, ...], limits: Mapping[str, Any]) -> str:
    if kind in _BOUNDS:
        name = _BOUNDS[kind]
        return f"{LIMITS[name]} {figure(limits[name])}"
    if kind == "model_type" and loc and loc[-1] == SETTINGS_TAG:
        return "a name or a mapping"
    if kind == "string_pattern_mismatch":
        return next((words for begin, words in _TEXTS.items()
                     if str(limits["pattern"]).startswith(begin)), _NAME)
    return _KINDS.get(kind) or _KINDS.get(kind.split("_", maxsplit=1)[0], "a plain value")


def _keys_at(loc: tuple[str | int, ...], schema: Mapping[str, Any]) -> list[str]:
    """Return the valid keys of the mapping that contains the last part of ``loc``."""
    nodes = [schema]
    for part in loc[:-1]:
        if part in TAGS:
            continue
        nodes = [child for node in nodes for child in _children(_spread(node, schema), part)]
    return sorted({key for node in nodes for inner in _spread(node, schema)
                   for key in inner.get("properties", ())})


def _spread(node: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a schema node's alternatives, with references resolved."""
    if "$ref" in node:
        return _spread(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema)
    branches = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    return [inner for branch in branches for inner in _spread(branch, schema)] or [node]


def _children(nodes: Iterable[Mapping[str, Any]], part: str | int) -> list[Mapping[str, Any]]:
    if isinstance(part, int):
        return [node["items"] for node in nodes if "items" in node]
    named = [node["properties"][part] for node in nodes if part in node.get("properties", {})]
    return named or [child for node in nodes  # else a mapping with user-defined keys
                     for child in (*node.get("patternProperties", {}).values(),
                                   node.get("additionalProperties")) if isinstance(child, dict)]
