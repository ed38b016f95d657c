"""Habits of the code that no linter knows."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

MAX_LINES = 400
# Files over the limit, with the length that they must not exceed, and why.
LONG_FILES = {
    "policy/schedule/replica.py": 540,  # one class natively compiled; its parts share counters
}
# Protocols that narrow one class's surface for another, rather than stand for several classes: a
# relay sees of an engine's stream what plug-ins may bring as well.
VIEWS = {"Decodes", "StreamTranslator"}


def sources(repository: Path) -> dict[str, str]:
    package = repository / "src" / "penstock"
    return {str(path.relative_to(package)): path.read_text() for path in package.rglob("*.py")}


Nodes = tuple[ast.AST, ...]


def nodes(source: str) -> Nodes:
    return tuple(ast.walk(ast.parse(source)))


@pytest.fixture(scope="module")
def modules(repository: Path) -> dict[str, Nodes]:
    """Every node of every module: parsed once, and not kept beyond these tests."""
    return {name: nodes(text) for name, text in sources(repository).items()}


def test_files_are_short(repository: Path) -> None:
    lengths = {name: len(text.splitlines()) for name, text in sources(repository).items()}
    assert not {name: length for name, length in lengths.items()
                if length > LONG_FILES.get(name, MAX_LINES)}
    not_long = [name for name in LONG_FILES if lengths.get(name, 0) <= MAX_LINES]
    assert not not_long, "take these out of LONG_FILES"


def prints(module: Nodes) -> list[int]:
    return [node.lineno for node in module
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == "print"]


def test_nothing_prints_past_the_console(modules: dict[str, Nodes]) -> None:
    found = {name: prints(module) for name, module in modules.items()}
    assert not {name: lines for name, lines in found.items() if lines}


def docstrings(module: Nodes) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, those below attributes included."""
    for node in module:
        body = getattr(node, "body", [])
        for item in body if isinstance(body, list) else ():
            if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) \
                    and isinstance(item.value.value, str):
                yield item.lineno, item.value.value


def test_no_docstring_opens_with_what(modules: dict[str, Nodes]) -> None:
    found = [f"{name}:{line}" for name, module in modules.items()
             for line, words in docstrings(module) if words.split()[:1] == ["What"]]
    assert not found


def classes(modules: Iterable[Nodes]) -> dict[str, ast.ClassDef]:
    return {node.name: node for module in modules for node in module
            if isinstance(node, ast.ClassDef)}


def base_names(node: ast.ClassDef) -> list[str]:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return [base.id for base in bases if isinstance(base, ast.Name)]


def own_members(node: ast.ClassDef) -> set[str]:
    """Methods, properties, fields and attributes that ``__init__`` sets."""
    found = {item.name for item in node.body
             if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    targets = [item for item in ast.walk(node) if isinstance(item, ast.Assign | ast.AnnAssign)]
    for assignment in targets:
        for target in ([assignment.target] if isinstance(assignment, ast.AnnAssign)
                       else assignment.targets):
            if isinstance(target, ast.Name):
                found.add(target.id)
            elif isinstance(target, ast.Attribute):
                found.add(target.attr)
    return found


def members(name: str, known: dict[str, ast.ClassDef]) -> set[str]:
    if name not in known:
        return set()
    inherited = [members(base, known) for base in base_names(known[name])]
    return own_members(known[name]).union(*inherited)


def implementations(known: dict[str, ast.ClassDef]) -> dict[str, list[str]]:
    """Per protocol, the classes that have every member it asks for."""
    protocols = {name for name, node in known.items() if "Protocol" in base_names(node)}
    offered = {name: members(name, known) for name in known if name not in protocols}
    wanted = {name: own_members(known[name]) for name in protocols}
    return {protocol: sorted(name for name, has in offered.items() if needs <= has)
            for protocol, needs in wanted.items() if needs != {"__call__"}}


def test_a_protocol_has_two_implementations(modules: dict[str, Nodes]) -> None:
    found = implementations(classes(modules.values()))
    assert {"StepTimeModel", "KvAllocator", "Router", *VIEWS} <= set(found)
    lonely = {name: classes for name, classes in found.items()
              if len(classes) < (1 if name in VIEWS else 2)}
    assert not lonely


@pytest.mark.parametrize(("source", "count"), [
    ("class P(Protocol):\n  def f(self): ...\nclass A:\n  def f(self): ...", 1),
    ("class P(Protocol):\n  x: int\nclass A:\n  x: int\nclass B(A):\n  pass", 2),
    ("class P(Protocol):\n  def f(self): ...\nclass A:\n  def g(self): ...", 0),
])
def test_implementations_are_counted(source: str, count: int) -> None:
    assert len(implementations(classes([nodes(source)]))["P"]) == count


def test_a_print_is_noticed() -> None:
    assert prints(nodes("console.print(1)\nprint(2)")) == [2]
