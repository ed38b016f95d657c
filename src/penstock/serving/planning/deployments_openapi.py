"""The REST API of deployments described for programs (OpenAPI 3.1)."""

from typing import Any

from penstock.fleet.schema import request_schema
from penstock.serving.deployments.deployments import State
from penstock.serving.deployments.verbs import VERBS, Verb

JSON = "application/json"
_ERRORS = {400: "the order cannot be read or is invalid; the message names the field",
           403: "the server was called by a name that is not its own",
           404: "no such deployment", 409: "its state, or reserved memory, does not allow it now",
           413: "the body is larger than the server takes", 415: "the body is not JSON",
           422: "no configuration meets the criteria; details has the reason for each",
           500: "a bug in Penstock", 502: "its engine failed or does not answer"}
_OF_POST = (413, 415)
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document of all verbs."""
    paths: dict[str, Any] = {}
    for verb in VERBS.values():
        paths.setdefault(verb.path, {})[verb.method.lower()] = _entry(verb)
    number, text = {"type": "number"}, {"type": "string"}
    return {
        "paths": paths,
        "components": {"schemas": {
            "Deployment": {"type": "object", "required": ["name", "model", "state"], "properties": {
                "name": text, "model": text, "engine": text,
                "state": {"type": "string", "enum": [str(state) for state in State]},
                "reason": {"type": ["string", "null"]}, "since_s": number}},
            "Error": {"type": "object", "required": ["error"], "properties": {
                "message": text, "error": {
                    "type": "object", "required": ["code", "message", "details"], "properties": {
                        "code": text, "message": text, "details": {"type": "object"},
                        "type": text, "param": {"type": ["string", "null"]}}}}}}}}


def _entry(verb: Verb) -> dict[str, Any]:
    about_one = "{name}" in verb.path
    answer: dict[str, Any] = {"type": "object"}
    if verb.name in ("register", "show", "profile", "restart", "remove"):
        answer = {"$ref": "#/components/schemas/Deployment"}
    responses = {str(status): {"description": meaning, "content": {JSON: {"schema": answer}}}
                 for status, meaning in ((200, "done"), (verb.begun, "the answer"
                                                         if verb.begun == 200 else "begun"))}
    for status, meaning in _ERRORS.items():
        if (status == 404 and not about_one) or (status in _OF_POST and verb.method != "POST"):
            continue
        responses[str(status)] = {"description": meaning, "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    entry: dict[str, Any] = {"summary": verb.summary, "operationId": verb.name,
                             "responses": responses}
    if about_one:
        entry["parameters"] = [_NAME]
    if verb.method == "POST":
        schema = request_schema(verb.order)
        entry["requestBody"] = {"required": bool(schema.get("required")),
                                "content": {JSON: {"schema": schema}}}
    return entry
