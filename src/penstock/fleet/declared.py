"""Declarations of single fields in the fleet file's schema, for options that set such a field."""

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.core.errors import InputError
from penstock.fleet.document import FleetDocument
from penstock.fleet.fields import MOST
from penstock.fleet.problems import shape_problems
from penstock.fleet.settings import parse_value

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@cache
def declared(path: str) -> "FieldInfo":
    """Return the declaration of the field at a dotted path such as ``service_classes.slo.ttft_s``,
    without list indexes."""
    section: type[BaseModel] = FleetDocument
    *sections, name = path.split(".")
    for part in sections:
        section = _section(section.model_fields[part].annotation)
    return section.model_fields[name]


def _section(annotation: Any) -> type[BaseModel]:
    """Return the section type within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, list):
        for inner in get_args(annotation):
            try:
                return _section(inner)
            except LookupError:
                continue
    raise LookupError(f"{annotation} has no section")


def field_value(path: str, text: str) -> Any:
    """Return the value of a text, read as the file reads this field. Raises InputError."""
    value = parse_value(text, "value")
    try:
        return _adapter(path).validate_python(value)
    except ValidationError as error:
        raise InputError(shape_problems(error, {})[0].text) from None


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    found = declared(path)
    kind: Any = found.annotation
    for limit in found.metadata:
        kind = Annotated[kind, limit]
    return TypeAdapter(kind, config={"strict": True, "hide_input_in_errors": True})


def field_help(path: str, default: str | None = None) -> str:
    """Return the field's description, range and default for a help page. ``default`` replaces the
    field's own default."""
    found = declared(path)
    text = (found.description or "").replace("`", "")
    notes = [f"{words} {limit:g}" for limit, words in _limits(found) if abs(limit) < MOST]
    own = found.default
    if default is None and isinstance(own, str | int | float) and not isinstance(own, bool):
        default = f"{own:g}" if isinstance(own, float) else str(own)
    if default is not None:
        notes.append(f"default: {default}")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _limits(found: "FieldInfo") -> Iterator[tuple[float, str]]:
    """Yield the bounds of a number, from the field or from its annotation."""
    limits = [*found.metadata]
    for part in (found.annotation, *get_args(found.annotation)):
        for inner in getattr(part, "__metadata__", ()):
            limits += getattr(inner, "metadata", [])
    for limit in limits:
        for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
            if getattr(limit, name, None) is not None:
                yield getattr(limit, name), words
