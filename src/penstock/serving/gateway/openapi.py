"""The gateway's API described for programs (OpenAPI 3.1)."""

from functools import cache
from typing import Any

from penstock.fleet.document_gateway import RequestParametersSection
from penstock.fleet.schema import query_schemas
from penstock.serving.gateway.ask import Offer
from penstock.serving.gateway.request_parameters import BODY_FIELD, KINDS
from penstock.serving.tenants.idempotency import KEY_HEADER, LONGEST_KEY, REPLAYED_HEADER

JSON = "application/json"
_ERROR = {"type": "object", "required": ["error"], "properties": {
    "message": {"type": "string"}, "error": {
    "type": "object", "required": ["message", "type", "param", "code"], "properties": {
        "message": {"type": "string"}, "type": {"type": "string"}, "details": {"type": "object"},
        "param": {"type": ["string", "null"]},
        # The gateway's own codes are words; an engine's code is passed on as it is.
        "code": {"type": ["string", "integer", "null"]}}}}}
_MEANINGS = {
    400: "a field of the request is invalid; the message names it",
    401: "no key, or one that is not valid", 403: "the key may not do this",
    404: "not found", 405: "the path does not take this method",
    408: "the body did not arrive in time",
    409: "the first request with this idempotency key is in progress, or was answered and charged",
    413: "the body is larger than the gateway takes",
    415: "a content type or packing of the body that the gateway does not take",
    422: "an engine refused it, or the idempotency key came with another body before",
    429: "not now; code and message say why, Retry-After when",
    500: "a bug in Penstock", 501: "an engine cannot do this", 502: "the engines failed",
    503: "no engine can serve it now; the message says why"}
_KEY = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY,
        "pattern": "^[!-~]([ -~]*[!-~])?$"}
_WHOLE = {"type": "integer", "minimum": 1}


def openapi(offer: Offer) -> dict[str, Any]:
    """Return the OpenAPI document of a gateway with this offer."""
    messages = {"type": "array", "items": {"type": "object"}}
    texts = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}},
                       {"type": "array", "items": {"type": "integer", "minimum": 0}}]}
    paths: dict[str, Any] = {
        "/v1/chat/completions": {"post": _ask(offer, "Answer a chat", {"messages": messages},
                                              "messages")},
        "/v1/completions": {"post": _ask(offer, "Continue a text", {"prompt": texts}, "prompt")},
        "/v1/embeddings": {"post": _ask(offer, "Embed texts", {"input": texts}, "input")},
        "/v1/models": {"get": _read("Models and aliases that the tenant may use")},
        "/v1/penstock/spend": {"get": _read("What was spent: one's own, or everybody's with a key "
                                            "that administers", 503)},
        "/v1/penstock/decisions/{id}": {"get": {
            **_read("Why a request went where it went", 404), "parameters": [{
                "name": "id", "in": "path", "required": True, "schema": {
                    "type": "string", "minLength": 1, "pattern": "^[-A-Za-z0-9]+$"},
                "description": "The answer's header X-Penstock-Decision."}]}},
        "/v1/penstock/status": {"get": _read("The engines, for administrators", 403)},
        "/v1/penstock/engines/drain": {"post": {
            **_read("Let an engine finish and give it nothing new, for who administers", 400, 403,
                    404, 408, 413, 415),
            "requestBody": {"required": True, "content": {JSON: {"schema": {
                "type": "object", "required": ["url"], "properties": {
                    "url": {"type": "string"}, "drain": {"type": "boolean"}}}}}}}},
        "/metrics": {"get": {**_read("For Prometheus, for administrators", 403),
                             "responses": {"200": {"description": "Prometheus' text format"},
                                           **_errors(401, 403)}}},
        "/health": {"get": {"summary": "Whether any engine may get requests", "security": [],
                            "responses": {"200": {"description": "yes"},
                                          "503": {"description": "no"}}}},
    }
    return {"security": [{"key": []}, {}],
            "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
            "paths": paths}


def _ask(offer: Offer, summary: str, fields: dict[str, Any], required: str) -> dict[str, Any]:
    names, schemas = offer.names(), _schemas_of_parameters(offer)
    return {
        "summary": summary,
        "parameters": [{"name": kind.header, "in": "header", "required": False,
                        "description": f"{schemas[name]['description']} Counts more than "
                                       f"{BODY_FIELD}.{name}.",
                        "schema": schemas[name]} for name, kind in KINDS.items()] + [
            {"name": KEY_HEADER, "in": "header", "required": False, "schema": _KEY,
             "description": "The same request with the same key is charged once within 24 hours."}],
        "requestBody": {"required": True, "content": {JSON: {"schema": {
            "type": "object", "required": [required], "additionalProperties": True,
            "properties": {
                **fields, "model": {"type": ["string", "null"], "examples": names[:1]},
                "stream": {"type": ["boolean", "null"]}, "max_tokens": _WHOLE,
                "max_completion_tokens": _WHOLE,
                BODY_FIELD: {"type": "object", "additionalProperties": False, "properties": {
                    name: schemas[name] for name in KINDS}}}}}}},
        "responses": {"200": {
            "description": "the engine's answer: one document, or events where stream is true",
            "headers": {"X-Penstock-Decision": {"schema": {"type": "string"}},
                        REPLAYED_HEADER: {"schema": {"type": "string", "enum": ["true"]}}},
            "content": {JSON: {"schema": {"type": "object"}},
                        "text/event-stream": {"schema": {}}}},
            **_errors(*_MEANINGS)}}


@cache
def _declared() -> dict[str, dict[str, Any]]:
    """Return the schemas of the declared parameters; made once, when somebody asks."""
    return query_schemas(RequestParametersSection)


def _schemas_of_parameters(offer: Offer) -> dict[str, dict[str, Any]]:
    schemas = _declared()
    return {**schemas,
            "service_class": {"type": "string", "enum": list(offer.classes),
                              "description": schemas["service_class"]["description"]},
            "session": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$",
                        "description": "Session; a replica that has its beginning may answer "
                                       "faster."}}


def _read(summary: str, *statuses: int) -> dict[str, Any]:
    return {"summary": summary, "responses": {
        "200": {"description": "it", "content": {JSON: {"schema": {"type": "object"}}}},
        **_errors(401, *statuses)}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": _MEANINGS[status], "content": {
        JSON: {"schema": _ERROR}}} for status in statuses}
