"""The published JSON Schema of the fleet file."""

from functools import cache
from typing import Any


@cache  # pydantic takes 40 ms for it, and every problem of a file needs it
def fleet_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the fleet file, every field with description and examples.

    Callers share one value and must not change it.
    """
    from penstock.fleet.document import FleetDocument

    schema = FleetDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema, "title": "Penstock fleet file"}
