"""Catalog files as plain mappings: YAML 1.2 numbers, no duplicate keys, one-line errors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml: ten times slower, same result
    from yaml import SafeLoader  # type: ignore[assignment]

from penstock.catalog.checks import is_text, quote
from penstock.core.errors import InputError, nearest

SECTIONS = ("accelerators", "models")
PRICE_BASIS = "price_basis"
_BUILT_IN = Path(__file__).parent / "data"
_ENDINGS = (".yaml", ".yml")
_MAX_BYTES = 5_000_000
_MAX_DEPTH = 20
_NESTED = f"nested more than {_MAX_DEPTH} levels deep"
_TOO_DEEP = "maximum nesting depth"  # as libyaml says, which reads brackets ahead of its events


class _Loader(SafeLoader):
    """Rejects duplicate keys, of which the second would silently win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {quote(key.value)} appears twice", key.start_mark)
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


# PyYAML follows YAML 1.1, in which 1e12 is text.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float",
                              re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
                              list("-+0123456789"))


@dataclass(frozen=True, slots=True)
class Document:
    """The entries of one file by name, unchecked; ``source`` names the file in errors.

    ``price_basis`` is the basis of prices that the file chooses, empty where it chooses none.
    """

    source: str
    sections: dict[str, dict[str, Any]]
    price_basis: str = ""


def built_in_documents() -> Iterator[Document]:
    """The files that ship with Penstock."""
    for section in SECTIONS:
        name = f"{section}.yaml"
        yield parse_document((_BUILT_IN / name).read_bytes(), f"built-in {name}")


def user_documents(path: Path) -> Iterator[Document]:
    """The file at ``path``, or every YAML file of the folder there, by name."""
    if not path.is_dir():
        yield _read(path)
        return
    files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    if not files:
        raise InputError(f"{path}: no catalog files; expected at least one ending in .yaml")
    for file in files:
        yield _read(file)


def _read(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); expected a catalog file") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{path}: more than {_MAX_BYTES:,} bytes; is it a catalog file?")
    return parse_document(content, str(path), trusted=False)


def parse_document(content: bytes, source: str, *, trusted: bool = True) -> Document:
    """Parse a file's sections, each a mapping from names to entries. Raises InputError."""
    try:
        if not trusted:
            _check_depth(content, source)
        data = yaml.load(content, Loader=_Loader)  # _Loader is a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        if _TOO_DEEP in str(error.problem):
            raise InputError(f"{source}{line}: {_NESTED}") from None
        raise InputError(f"{source}{line}: not valid YAML: {_one_line(error.problem)}") from None
    except InputError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(data, dict):
        raise InputError(f"{source}: found {quote(data)}; expected a mapping with accelerators, "
                         "models or both")
    basis = data.pop(PRICE_BASIS, "")
    if basis != "" and not is_text(basis):
        raise InputError(f"{source}: {PRICE_BASIS}: found {quote(basis)}; expected text")
    for section, entries in data.items():
        if section not in SECTIONS:
            raise InputError(f"{source}: unknown key {quote(section)}"
                             f"{nearest(str(section), (*SECTIONS, PRICE_BASIS))}")
        if not isinstance(entries, dict):
            raise InputError(f"{source}: {section}: found {quote(entries)}; expected a mapping "
                             "from names to entries")
    return Document(source, data, basis)


def _check_depth(content: bytes, source: str) -> None:
    """Reject deep nesting: libyaml's composer recurses and would crash the process."""
    depth = 0
    for event in yaml.parse(content, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise InputError(f"{source}:{line}: {_NESTED}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
