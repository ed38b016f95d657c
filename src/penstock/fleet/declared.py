"""Declarations of single fields, of the fleet file and of requests, for options that set such a
field.

A path is dotted, such as ``service_classes.slo.ttft_s``; the places in lists are left out. A field
of a request has the request's name before a colon: ``deploy:slo_s``.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.core.errors import InputError
from penstock.fleet.document import FleetDocument
from penstock.fleet.fields import LIMITS, MOST, limits_of
from penstock.fleet.problems import figure, shape_problems
from penstock.fleet.requests import REQUESTS
from penstock.fleet.settings import parse_value

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@cache
def declared(path: str) -> "FieldInfo":
    """Return the declaration of the field at a dotted path such as ``service_classes.slo.ttft_s``,
    without list indexes; a request's field has the request before it (``plan:seed``)."""
    request, _, place = path.rpartition(":")
    section: type[BaseModel] = REQUESTS[request] if request else FleetDocument
    *sections, name = place.split(".")
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
    """Return the value of a text, read as the file reads this field. Raises InputError that states
    the expected value."""
    if _is_text(declared(path).annotation):
        return checked(path, text)
    try:
        value = parse_value(text, "value")
    except InputError as error:
        raise InputError(str(error).removeprefix(f"value={text[:60]}: ")) from None
    if value is None:
        raise InputError("expected a value, found nothing")
    return checked(path, value)


def _is_text(annotation: Any) -> bool:
    """Whether the field has texts alone, of which none is read as another kind of value."""
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return all(_is_text(inner) for inner in get_args(annotation)[
            :1 if get_origin(annotation) is Annotated else None] if inner is not type(None))
    return annotation is str


def checked(path: str, value: Any) -> Any:
    """A value as the field at a path takes it. Raises InputError that says what was expected."""
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


def field_help(path: str, default: str | float | None = None) -> str:
    """Return the field's description, range and default for a help page. ``default`` replaces the
    field's own default; an empty one leaves it out."""
    found = declared(path)
    text = (found.description or "").replace("`", "")
    return noted(text, limits_of(found), found.default if default is None else default)


def noted(text: str, limits: Iterable[tuple[str, Any]], default: Any,
          notes: Sequence[str] = ()) -> str:
    """Return a help text with a range, other notes and a default: ``(at least 1; default: 4)``."""
    said = [f"{LIMITS[name]} {figure(limit)}" for name, limit in limits
            if name in LIMITS and abs(limit) < MOST]
    said += notes
    if isinstance(default, str | int | float | Path) and not isinstance(default, bool) and str(
            default):
        said.append(f"default: {default:g}" if isinstance(default, float) else
                    f"default: {default}")
    return f"{text} ({'; '.join(said)})" if said else text

