"""Frozen dataclasses as JSON documents and back: a class declares the keys of its document once."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


class Form(Enum):
    """How a field that may be None stands in the document, stated beside its type."""

    OPTIONAL = "optional"  # absent while it is None
    FLAT = "flat"          # its own keys stand beside the others, none of them while it is None


@dataclass(frozen=True, slots=True)
class Former:
    """The former name of a key, which the document states, too."""

    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A field with its type, and its form in the document."""

    name: str
    kind: Any
    form: Form | None
    former: str | None
    required: bool


def document(record: Any) -> Any:
    """A record, or records in lists and mappings, as plain data, keys in the order of fields."""
    if isinstance(record, Mapping):
        return {name: document(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [document(value) for value in record]
    if not is_dataclass(record):
        return record
    found: dict[str, Any] = {}
    kind: type = type(record)
    for key in keys(kind):
        value = getattr(record, key.name)
        if value is None and key.form is not None:
            continue
        plain = document(value)
        found |= plain if key.form is Form.FLAT else {key.name: plain}
        if key.former is not None:
            found[key.former] = plain
    return found


def read_record(kind: type[Record], found: Mapping[str, Any]) -> Record:
    """The record of a document; keys that it does not know are passed over.

    Raises KeyError for a key that is missing and TypeError for a value of another form.
    """
    result: Record = _read(kind, found)
    return result


def _read(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        _check_mapping(value)
        return kind(**{key.name: _field(key, value) for key in keys(kind)
                       if key.required or _has(key, value)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _read(arguments[0], value)
    if origin is tuple:
        return tuple(_read(arguments[0], item) for item in value)
    if origin is Mapping:
        _check_mapping(value)
        return {name: _read(arguments[1], item) for name, item in value.items()}
    return value


def _check_mapping(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"found {str(value)[:60]!r}; expected keys and values")


def _field(key: Key, found: Mapping[str, Any]) -> Any:
    if key.form is Form.FLAT:
        return _read(key.kind, found)
    return _read(key.kind, found[key.name] if key.name in found or key.former is None
                 else found[key.former])


def _has(key: Key, found: Mapping[str, Any]) -> bool:
    if key.form is Form.FLAT:
        return any(_has(inner, found) for inner in keys(get_args(key.kind)[0]))
    return key.name in found or key.former in found


@cache
def keys(kind: Any) -> tuple[Key, ...]:
    """The keys of a record's document."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_key(one.name, hints[one.name], one.default is MISSING) for one in fields(kind))


def _key(name: str, hint: Any, required: bool) -> Key:
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    forms = [mark for mark in marks if isinstance(mark, Form)]
    formers = [mark.name for mark in marks if isinstance(mark, Former)]
    return Key(name, kind, forms[0] if forms else None, formers[0] if formers else None, required)
