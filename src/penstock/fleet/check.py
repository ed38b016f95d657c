"""Every problem of a fleet file at once, each with its line and a fix where one is known.

A file is checked in stages: shape, references, values, traffic. Each stage needs data that passes
the stage before. So every problem is repaired in a copy, by its fix or by leaving the part out, and
the copy is checked further. Reported places are those of the original file.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from penstock.core.errors import InputError, suggested
from penstock.fleet.files import FileFinder
from penstock.fleet.load import examined, fleet_name
from penstock.fleet.marked_yaml import MarkedData, Path
from penstock.fleet.problems import Problem, dotted, quote
from penstock.fleet.values import Fleet

_MOST_TURNS = 50
_NAMED_SECTIONS = ("accelerators", "models", "service_classes")
_ABSENT = object()


class Finding(NamedTuple):
    """A problem in readable form. ``line`` is None where an override is the cause."""

    line: int | None
    field: str
    problem: str
    fix: str | None


def find_problems(marked: MarkedData, files: FileFinder) -> tuple[Fleet | None, list[Finding]]:
    """Return the fleet where the file has no problem, else all problems in the file's order."""
    copy = _Copy(deepcopy(marked.data))
    found: dict[tuple[Path, str], Finding] = {}
    for _ in range(_MOST_TURNS):
        outcome = _stage(MarkedData(copy.data, marked.lines, marked.source), files)
        if isinstance(outcome, Fleet):
            return (None if found else outcome), _in_order(found)
        places = [(copy.origin(problem.path), problem) for problem in copy.to_mend_now(outcome)]
        fresh = [(origin, problem) for origin, problem in places
                 if (origin, problem.text) not in found and not copy.caused(origin)
                 and not copy.stood_in(origin) and not copy.follows_a_guess(problem)]
        for origin, problem in fresh:
            fix = copy.fix_of(problem)
            line = None if marked.place(origin) == "override" else marked.line(origin)
            found[origin, problem.text] = Finding(
                line, dotted(origin), problem.text, fix and fix.text)
        # Later places first, so that earlier paths stay valid.
        changed = [copy.mend(problem) for _, problem in sorted(
            places, key=lambda place: [str(part).zfill(9) for part in place[1].path],
            reverse=True)]
        if not any(changed) or copy.incomplete:
            break
    return None, _in_order(found)


def _in_order(found: dict[tuple[Path, str], Finding]) -> list[Finding]:
    return sorted(found.values(), key=lambda finding: finding.line or 0)


def _stage(marked: MarkedData, files: FileFinder) -> Fleet | list[Problem]:
    """Return the fleet after drawing its traffic once, or the problems of the first stage that
    finds any."""
    from penstock.fleet.sources import fleet_workload

    try:
        found = examined(marked, fleet_name(marked.source), files, to_plan=False)
        if isinstance(found, Fleet):
            fleet_workload(found)
        return found
    except InputError as error:
        return [Problem(("traffic",), str(error).removeprefix("traffic: "))]


class _Fix(NamedTuple):
    """A key's new name, or its new value."""

    path: Path
    name: str | None
    value: Any
    text: str


@dataclass
class _Copy:
    """The file's data during repair, with the original place of each part."""

    data: Any
    incomplete: bool = False
    """Whether a named entry was left out: problems of references to it are then ignored."""
    _indices: dict[Path, list[int]] = field(default_factory=dict)
    _old_names: dict[Path, str] = field(default_factory=dict)
    _gone: set[Path] = field(default_factory=set)
    _replaced: set[Path] = field(default_factory=set)
    _guessed: list[str] = field(default_factory=list)

    def origin(self, path: Path) -> Path:
        """Return the path in the file of the part at ``path`` in the copy."""
        place: Path = ()
        for part in path:
            if isinstance(part, int):
                indices = self._indices.get(place)
                part = indices[part] if indices and part < len(indices) else part
            else:
                part = self._old_names.get((*place, part), part)
            place = (*place, part)
        return place

    def caused(self, origin: Path) -> bool:
        """Whether a problem at this place is a consequence of a part that was left out."""
        return any(gone[:len(origin)] == origin or origin[:len(gone)] == gone
                   or (origin[:-1] == gone[:-1] and isinstance(gone[-1], str))
                   for gone in self._gone)

    def stood_in(self, origin: Path) -> bool:
        """Whether a fix, and not the file, states the value that is here."""
        return any(origin[:len(replaced)] == replaced for replaced in self._replaced)

    def follows_a_guess(self, problem: Problem) -> bool:
        """Whether a problem elsewhere is one of a model or accelerator that the file may not mean:
        the nearest name stands in for an unknown one."""
        path, text = problem
        declares = path and path[0] in _NAMED_SECTIONS
        return not declares and suggested(text) is None and any(
            re.search(rf"(?<![\w-]){re.escape(name)}", text) for name in self._guessed)

    def to_mend_now(self, problems: list[Problem]) -> list[Problem]:
        """Return the problems without possible consequences of others: of a whole with a faulty
        part, and of a name that only differs from a misspelt one."""
        misspelt = {self._value(path) for path, text in problems
                    if path[:1] and path[0] in _NAMED_SECTIONS and path[-1] == "name"
                    and suggested(text)}
        return [problem for problem in problems if suggested(problem.text) not in misspelt
                and not any(problem.path == other.path[:len(problem.path)] != other.path
                            for other in problems)]

    def fix_of(self, problem: Problem) -> _Fix | None:
        """Return the fix that the problem's text suggests."""
        path, text = problem
        value, name = self._value(path), suggested(text)
        last = str(path[-1]) if path else ""
        if name is not None and isinstance(value, str) and quote(value) in text:
            return _Fix(path, None, name, f"{last}: {name}" if isinstance(path[-1], str) else name)
        if name is not None and isinstance(value, dict) and "name" in value:
            return _Fix((*path, "name"), None, name, f"name: {name}")
        if name is not None and path and isinstance(path[-1], str):
            plain = isinstance(value, str | int | float)
            return _Fix(path, name, value, f"{name}: {value}" if plain else f"{name}: ...")
        if "shares sum to" in text and isinstance(value, dict) and sum(value.values()) > 0:
            shares = {key: round(share / sum(value.values()), 4) for key, share in value.items()}
            inner = ", ".join(f"{key}: {share:g}" for key, share in shares.items())
            return _Fix(path, None, shares, f"{last}: {{{inner}}}")
        example = _example(self.origin(path))
        if example is _ABSENT or not text.startswith(("missing", "expected")):
            return None
        keys = [part for part in path if isinstance(part, str)]
        part = example[0] if isinstance(path[-1], int) and isinstance(example, list) else example
        return _Fix(path, None, part, f"for example {keys[-1]}: {_flow(example)}")

    def mend(self, problem: Problem) -> bool:
        """Apply the fix, or leave out the faulty part. Returns whether the copy changed."""
        if self.caused(self.origin(problem.path)):
            absent = self._value(problem.path) is _ABSENT
            return self._leave_out(problem.path[:-1] if absent else problem.path)
        fix = self.fix_of(problem)
        return self._leave_out(problem.path) if fix is None else self._apply(fix)

    def _apply(self, fix: _Fix) -> bool:
        *parents, last = fix.path
        node = self._value(tuple(parents))
        if last == "name" and isinstance(node, dict) and last not in node:
            return self._leave_out(tuple(parents))  # an example is not a name that others refer to
        if not isinstance(node, dict | list):
            return False
        if fix.name is not None:
            if fix.name in node:
                return self._leave_out(fix.path)
            place = self.origin(tuple(parents))
            self._old_names[*place, fix.name] = self._old_names.pop((*place, str(last)), str(last))
            if isinstance(node, dict):
                node[fix.name] = node.pop(last)
            return True
        before = node.get(last, _ABSENT) if isinstance(node, dict) else node[int(last)]
        if before == fix.value:
            return self._leave_out(fix.path)
        self._replaced.add(self.origin(fix.path))
        if fix.path[0] in ("models", "accelerators") and last == "name":
            self._guessed.append(str(fix.value))
        if isinstance(node, dict):
            node[last] = fix.value
        else:
            node[int(last)] = fix.value
        return True

    def _leave_out(self, path: Path) -> bool:
        if not path or self._value(path) is _ABSENT:
            return False
        origin, (*parents, last) = self.origin(path), path
        node = self._value(tuple(parents))
        self._gone.add(origin)
        if isinstance(node, list):
            place = self.origin(tuple(parents))
            self._indices.setdefault(place, list(range(len(node)))).pop(int(last))
            self.incomplete |= path[0] in _NAMED_SECTIONS and len(path) == 2
            node.pop(int(last))
        else:
            self.incomplete |= last in _NAMED_SECTIONS and len(path) == 1
            node.pop(last)
        return True

    def _value(self, path: Path) -> Any:
        node = self.data
        for part in path:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return _ABSENT
        return node


def _example(path: Path) -> Any:
    """Return the first example of a field in the schema."""
    from penstock.fleet.declared import declared

    try:
        examples = declared(".".join(str(part) for part in path if isinstance(part, str))).examples
    except (LookupError, ValueError):
        return _ABSENT
    return examples[0] if examples else _ABSENT


def _flow(value: Any) -> str:
    """Return an example in YAML flow notation."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
