"""Declarations of single fields in the fleet file's schema, for options that set such a field."""

from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.core.errors import InputError
from penstock.fleet.document import FleetDocument
from penstock.fleet.problems import shape_problems
from penstock.fleet.settings import parse_value

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@cache
def declared(path: str) -> "FieldInfo":
    """The declaration of the field at a dotted path such as ``service_classes.slo.ttft_s``; the
    places in lists are left out."""
    section: type[BaseModel] = FleetDocument
    *sections, name = path.split(".")
    for part in sections:
        section = _section(section.model_fields[part].annotation)
    return section.model_fields[name]


def _section(annotation: Any) -> type[BaseModel]:
    """The section that an annotation allows, whatever else it allows."""
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
    """A text as the file would read this field's value. Raises InputError that says what was
    expected."""
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


def field_help(path: str) -> str:
    """The field's description, and its default where it has one, as a help page shows them."""
    found = declared(path)
    text = (found.description or "").replace("`", "")
    default = found.default
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        return f"{text} [default: {shown}]"
    return text
