"""YAML text to plain data, with the line of every key and item, within strict limits.

The parser's events are read one by one, so data beyond a limit is never built: aliases count in
full at every use, and no tag can name a Python type. Plain scalars follow YAML 1.2's core schema:
``1e6`` is a number; ``on`` and ``2023-01-01`` are text.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from penstock.core.errors import InputError

Path = tuple[str | int, ...]

MAX_BYTES = 5_000_000
MAX_DEPTH = 24
MAX_NODES = 100_000
MAX_DIGITS = 18

_NESTED = f"nested more than {MAX_DEPTH} levels deep"
_TOO_DEEP = "maximum nesting depth"  # as libyaml says, which reads brackets ahead of its events

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
          "true": True, "True": True, "TRUE": True, "false": False, "False": False,
          "FALSE": False}
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class MarkedData:
    """Plain data and the 1-based line of each of its parts.

    ``overridden`` are the paths whose value does not come from the file.
    """

    data: Any
    lines: Mapping[Path, int]
    source: str
    overridden: tuple[Path, ...] = ()

    def line(self, path: Path) -> int:
        """Return the line of ``path``, or of its nearest enclosing part."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: Path) -> str:
        """Return file and line of ``path``, or that it was overridden."""
        if any(path[:len(own)] == own for own in self.overridden):
            return "override"
        return f"{self.source}:{self.line(path)}"


def read_yaml(text: str, source: str) -> MarkedData:
    """Return the single document of ``text``. Raises InputError with ``source`` and the line."""
    size = len(text)
    if size > MAX_BYTES:
        raise InputError(f"{source}: {size:,} characters; a fleet file has at most {MAX_BYTES:,}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _Reader(yaml.parse(text, Loader=loader), source)
    try:
        data = reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if _TOO_DEEP in str(error.problem):
            raise InputError(f"{source}:{line}: {_NESTED}") from None
        raise InputError(f"{source}:{line}: not valid YAML: {_one_line(error.problem)}") from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{source}: not valid YAML: {_one_line(reason)}") from None
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InputError(f"{source}: not valid YAML: half a character, U+{code:04X}") from None
    return MarkedData(data, reader.lines, source)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


class _Reader:
    """Converts a stream of events to data, recording lines and counting nodes."""

    def __init__(self, events: Iterator[Any], source: str) -> None:
        self.lines: dict[Path, int] = {}
        self._events = events
        self._source = source
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._num_nodes = 0

    def document(self) -> Any:
        """Return the first document's data. A second document is an error."""
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise InputError(f"{self._source}: empty; expected a fleet's sections "
                             "(accelerators, models, service_classes, traffic)")
        data = self._node(next(self._events), (), 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._fail(event, "a second document begins; expected one")
        return data

    def _fail(self, event: Any, problem: str) -> NoReturn:
        raise InputError(f"{self._source}:{_line(event)}: {problem}")

    def _count(self, event: Any, num_nodes: int) -> None:
        self._num_nodes += num_nodes
        if self._num_nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES:,} values, aliases counted each time they "
                              "are used")

    def _node(self, event: Any, path: Path, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self._fail(event, _NESTED)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._num_nodes
        self._count(event, 1)
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            data: Any = self._mapping(event, path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = self._sequence(event, path, depth)
        else:
            data = self._scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (data, self._num_nodes - before)
        return data

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            self._fail(event, f"alias *{event.anchor} names no finished anchor")
        data, num_nodes = self._anchors[event.anchor]
        self._count(event, num_nodes)
        return data

    def _mapping(self, start: Any, path: Path, depth: int) -> dict[str, Any]:
        self._check_tag(start, "tag:yaml.org,2002:map")
        data: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fail(event, "a key must be plain text")
            key = event.value
            if key in data:
                first = self.lines[(*path, key)]
                self._fail(event, f"key {_quote(key)} appears twice, first on line {first}")
            self.lines[(*path, key)] = _line(event)
            data[key] = None
            data[key] = self._node(next(self._events), (*path, key), depth + 1)
        return data

    def _sequence(self, start: Any, path: Path, depth: int) -> list[Any]:
        self._check_tag(start, "tag:yaml.org,2002:seq")
        data: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            data.append(self._node(event, (*path, len(data)), depth + 1))
        return data

    def _scalar(self, event: Any) -> Any:
        self._check_tag(event, "tag:yaml.org,2002:str")
        plain_and_untagged = event.implicit[0]
        if plain_and_untagged and len(event.value) > MAX_DIGITS and _INT.fullmatch(event.value):
            self._fail(event, f"a number of {len(event.value)} digits; expected at most "
                              f"{MAX_DIGITS}")
        return _plain_value(event.value) if plain_and_untagged else event.value

    def _check_tag(self, event: Any, usual: str) -> None:
        if event.tag not in (None, "!", usual):
            self._fail(event, f"tag {_quote(event.tag)} is not allowed; write plain values")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def is_text(text: str) -> bool:
    """Whether a plain scalar with this spelling is text, and not a number, a boolean or null."""
    return isinstance(_plain_value(text), str)


def _plain_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text
