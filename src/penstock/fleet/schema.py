"""JSON Schemas of the fleet file and of requests, from the declarations of their fields."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel


@cache  # every problem of a file needs it
def fleet_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the fleet file, every field with description and examples.

    Callers share one value and must not change it.
    """
    from penstock.fleet.document import FleetDocument

    schema = _schema(FleetDocument)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema, "title": "Penstock fleet file"}


def request_schema(section: type[BaseModel], leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """JSON Schema of a request's fields, without definitions of its own: each stands where it is
    used."""
    schema = _schema(section)
    definitions = schema.get("$defs", {})
    left_out = frozenset(leave_out)
    fields = {name: field for name, field in schema["properties"].items() if name not in left_out}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:  # a section, with what the field that has it says of it
            name = value["$ref"].rpartition("/")[2]
            return walk({**definitions[name], **{k: v for k, v in value.items() if k != "$ref"}})
        return {key: walk(item) for key, item in value.items()}

    own = {key: value for key, value in schema.items() if key != "$defs"}
    found: dict[str, Any] = walk({**own, "properties": fields})
    return found


@cache
def _schema(section: type[BaseModel]) -> dict[str, Any]:
    """Return pydantic's schema of a section. Callers share one value and must not change it."""
    return section.model_json_schema()


def query_schemas(section: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """JSON Schema of each field of a query, where nothing stands for a field that is left out."""
    found = {}
    for name, schema in request_schema(section)["properties"].items():
        inner = [one for one in schema.pop("anyOf", ()) if one != {"type": "null"}]
        if schema.get("default", ...) is None:
            del schema["default"]
        found[name] = {**schema, **(inner[0] if inner else {})}
    return found
