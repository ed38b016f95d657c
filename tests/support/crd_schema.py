"""Objects checked against the schema of a custom resource definition."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_KINDS = {"string": str, "boolean": bool, "object": dict, "array": list, "number": (int, float)}


def faults(value: Any, schema: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """What a server would refuse of a value, or drop since it does not know the field. Rules in CEL
    are left out."""
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{place}: {value!r} is no number or text"
        return
    kind = schema.get("type")
    if kind == "integer":
        is_right = isinstance(value, int) and not isinstance(value, bool)
    else:
        is_right = kind is None or isinstance(value, _KINDS[kind])
    if not is_right:
        yield f"{place}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        yield from _of_object(value, schema, place)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from faults(one, schema["items"], f"{place}[{number}]")
    yield from _of_size(value, schema, place)


def _of_size(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place}: {value!r} does not match {schema['pattern']}"
    bounds, size = ("minimum", "maximum"), value
    if isinstance(value, list | str):
        of_lists = isinstance(value, list)
        bounds, size = ("minItems", "maxItems") if of_lists else ("minLength", "maxLength"), \
            len(value)
    if isinstance(size, int | float) and not (
            schema.get(bounds[0], size) <= size <= schema.get(bounds[1], size)):
        yield f"{place}: has {size}, and {bounds} are {[schema.get(one) for one in bounds]}"


def _of_object(value: dict[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name}: is missing"
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for name, one in value.items():
        if name in known:
            yield from faults(one, known[name], f"{place}.{name}")
        elif isinstance(others, dict):
            yield from faults(one, others, f"{place}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields") and known:
            yield f"{place}.{name}: is unknown"
