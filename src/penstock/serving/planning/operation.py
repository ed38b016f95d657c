"""One endpoint: its path, its request and answer, and its function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.errors import InputError
from penstock.serving.error_document import error_document

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code, a JSON document and further headers."""

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """A POST endpoint. ``handle`` turns the parsed body into an answer, or raises InputError.

    ``request`` is the JSON Schema of the body and ``example`` a valid body. ``errors`` has the
    status codes other than 200 and 400, with their meaning. ``media_types`` are the accepted types
    of the body, ``parameters`` the schemas of query parameters.
    """

    path: str
    summary: str
    handle: Callable[[Any], Answer]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    example: Mapping[str, Any]
    errors: Mapping[int, str]
    media_types: tuple[str, ...] = (JSON,)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def call(self, body: Any) -> Answer:
        """Return the answer. Bad input gives status 400 with its one-line message."""
        try:
            return self.handle(body)
        except InputError as error:
            return failure(400, str(error))


def failure(status: int, message: str, **headers: str) -> Answer:
    """Return an error in the form of every service, which Inferno's clients also read."""
    return Answer(error_document(status, " ".join(message.split()), "input"), status, headers)


def number_schema(description: str, **more: Any) -> dict[str, Any]:
    """Return the JSON Schema of a non-negative number."""
    return {"type": "number", "minimum": 0, "description": description, **more}


def object_schema(properties: Mapping[str, Any], required: tuple[str, ...] = (),
                  more: bool = True) -> dict[str, Any]:
    """Return the JSON Schema of an object."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    if not more:
        schema["additionalProperties"] = False
    return schema
