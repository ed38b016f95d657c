"""The published JSON Schema of the fleet file."""

from typing import Any


def fleet_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the fleet file, every field with description and examples."""
    from penstock.fleet.document import FleetDocument

    schema = FleetDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema, "title": "Penstock fleet file"}
