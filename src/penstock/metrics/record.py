"""Frozen dataclasses as JSON documents and back: a class declares the keys of its document once."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from penstock.core.errors import InputError

Record = TypeVar("Record")
_MOST_SHOWN = 60


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

    Raises InputError with the place of a key that is missing or has a value of another form.
    """
    result: Record = _read(kind, found, "")
    return result


def _read(kind: Any, value: Any, place: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        _check(value, Mapping, place)
        return kind(**{key.name: _field(key, value, place) for key in keys(kind)
                       if key.required or _has(key, value)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _read(arguments[0], value, place)
    if origin is tuple:
        _check(value, list, place)
        return tuple(_read(arguments[0], item, f"{place}[{index}]")
                     for index, item in enumerate(value))
    if origin is Mapping:
        _check(value, Mapping, place)
        return {name: _read(arguments[1], item, _below(place, name))
                for name, item in value.items()}
    if kind in _WORDS:
        _check(value, kind, place)
    return value


# Numbers may be NumPy's.
_FORMS: Mapping[Any, Any] = {Mapping: Mapping, list: (list, tuple), float: Real, int: Integral,
                             str: str}
_WORDS: Mapping[Any, str] = {Mapping: "keys and values", list: "a list", float: "a number",
                             int: "a whole number", str: "text"}


def _check(value: Any, kind: Any, place: str) -> None:
    """Raise InputError for a value of another form; every whole number is a number."""
    if not isinstance(value, _FORMS[kind]) or isinstance(value, bool):
        text = str(value)
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN - 3]}..."
        raise InputError(f"{place or 'the document'}: found {shown}; expected {_WORDS[kind]}")


def _below(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _field(key: Key, found: Mapping[str, Any], place: str) -> Any:
    if key.form is Form.FLAT:
        return _read(key.kind, found, place)
    name = key.name if key.name in found or key.former is None else key.former
    if name not in found:
        raise InputError(f"{_below(place, key.name)}: missing; this key is required")
    return _read(key.kind, found[name], _below(place, name))


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
