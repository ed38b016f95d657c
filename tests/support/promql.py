"""Reader of PromQL expressions: which series they select, by which labels, and by which they group.

It refuses words that it does not know, so a misspelt function is no metric by oversight.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

AGGREGATIONS = {"avg", "bottomk", "count", "group", "max", "min", "quantile", "stddev", "sum",
                "topk"}
FUNCTIONS = {"abs", "absent", "absent_over_time", "avg_over_time", "ceil", "changes", "clamp",
             "clamp_max", "clamp_min", "count_over_time", "delta", "deriv", "floor",
             "histogram_quantile", "increase", "irate", "label_replace", "last_over_time",
             "max_over_time", "min_over_time", "rate", "resets", "round", "scalar", "sum_over_time",
             "time", "vector"}
GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool"}
TOKEN = re.compile(r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<range>\[[^\]]*\])
  | (?P<offset>offset\s+-?\d+[smhdwy])
  | (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
  | (?P<name>[a-zA-Z_:][\w:]*)
  | (?P<sign>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){},])
""", re.VERBOSE)
RANGE = re.compile(r"\[(\d+[smhdwy]|\$__rate_interval|\$__range|\$__interval)(:(\d+[smhdwy])?)?\]")


class PromqlError(Exception):
    """A text that the reader does not understand."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric's name and the matchers on its labels: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()


@dataclass(slots=True)
class Expression:
    """Selectors and grouping labels of an expression."""

    selectors: list[Selector] = field(default_factory=list)
    grouping: set[str] = field(default_factory=set)


def read(text: str) -> Expression:
    """Read an expression. Raises PromqlError."""
    return _Reader(list(_tokens(text))).read()


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None:
            raise PromqlError(f"{text[position:position + 20]!r} in {text!r}")
        position = found.end()
        if found.lastgroup == "range" and not RANGE.fullmatch(found[0]):
            raise PromqlError(f"range {found[0]}")
        if found.lastgroup != "space":
            yield str(found.lastgroup), found[0]


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = [*tokens, ("end", "")]
        self._at = 0
        self._found = Expression()

    def read(self) -> Expression:
        depth = 0
        while self._tokens[self._at][0] != "end":
            kind, text = self._next()
            depth += (text == "(") - (text == ")")
            if kind == "name":
                self._name(text)
            elif text in ("{", "}", "=", "=~", "!~") or depth < 0:
                raise PromqlError(f"{text!r} out of place")
        if depth:
            raise PromqlError("parentheses")
        return self._found

    def _next(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _name(self, text: str) -> None:
        if text in GROUPINGS:
            if text.startswith("group_") and self._peek() != "(":
                return
            self._found.grouping |= set(self._labels())
        elif text in AGGREGATIONS and (self._peek() in ("(", "by", "without")):
            return
        elif self._peek() == "(":
            if text not in FUNCTIONS and text not in WORDS:
                raise PromqlError(f"{text} is no function")
        elif text not in WORDS:
            self._found.selectors.append(Selector(text, tuple(self._matchers())))

    def _labels(self) -> Iterator[str]:
        self._expect("(")
        while self._peek() != ")":
            kind, text = self._next()
            if kind != "name":
                raise PromqlError(f"{text!r} is no label")
            yield text
            if self._peek() != ")":
                self._expect(",")
        self._expect(")")

    def _matchers(self) -> Iterator[tuple[str, str, str]]:
        if self._peek() != "{":
            return
        self._expect("{")
        while self._peek() != "}":
            (kind, label), (_, operator), (what, value) = self._next(), self._next(), self._next()
            if (kind, what) != ("name", "string") or operator not in ("=", "!=", "=~", "!~"):
                raise PromqlError(f"{label} {operator} {value}")
            yield label, operator, value[1:-1]
            if self._peek() != "}":
                self._expect(",")
        self._expect("}")

    def _expect(self, sign: str) -> None:
        if (found := self._next()[1]) != sign:
            raise PromqlError(f"{sign!r} expected, {found!r} found")
