"""The API described for programs (OpenAPI 3.1) and for readers (one page without scripts)."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import orjson

from penstock import __version__
from penstock.serving.planning.operation import JSON, Operation, object_schema

TITLE = "Penstock planning API"
_ERROR = object_schema({"message": {"type": "string"}}, ("message",))
_COMMON = {400: "the body cannot be read or is invalid; the message names the field",
           413: "the body is larger than the server takes", 500: "a bug in Penstock"}


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of the endpoints; a body of several forms is described once."""
    return {"paths": {operation.path: {"post": _entry(operation)} for operation in operations},
            "components": {"schemas": {operation.request["title"]: dict(operation.request)
                                       for operation in operations if _has_forms(operation)}}}


def _has_forms(operation: Operation) -> bool:
    return len(operation.media_types) > 1


def _entry(operation: Operation) -> dict[str, Any]:
    responses = {"200": {"description": "the answer", "content": {
        JSON: {"schema": dict(operation.response)}}}}
    for status, meaning in sorted({**_COMMON, **operation.errors}.items()):
        responses[str(status)] = {"description": meaning, "content": {
            JSON: {"schema": _ERROR}}}
    body = {"$ref": f"#/components/schemas/{operation.request['title']}"} \
        if _has_forms(operation) else dict(operation.request)
    entry: dict[str, Any] = {
        "summary": operation.summary, "operationId": operation.path.strip("/").replace("/", "_"),
        "requestBody": {"required": True, "content": {
            media_type: {"schema": body, "example": dict(operation.example)}
            for media_type in operation.media_types}},
        "responses": responses}
    if operation.parameters:
        entry["parameters"] = [
            {"name": name, "in": "query", "required": False,
             "description": schema.get("description", ""),
             "schema": {key: value for key, value in schema.items() if key != "description"}}
            for name, schema in operation.parameters.items()]
    return entry


def docs_page(operations: Sequence[Operation]) -> str:
    """Return an HTML page with every operation, its fields, an example and its errors."""
    sections = "\n".join(_section(operation) for operation in operations)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff }}
h2 {{ margin-top: 2.5rem; border-top: 1px solid #d0d7de; padding-top: 1rem }}
pre, code {{ font: 14px/1.45 ui-monospace, monospace; background: #f3f5f7 }}
pre {{ padding: .8rem; overflow-x: auto }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6edf3; background: #0d1117 }} pre, code {{ background: #161b22 }}
  a {{ color: #79b8ff }} h2 {{ border-color: #30363d }} }}
</style></head><body>
<h1>{TITLE} {escape(__version__)}</h1>
<p>Every operation is a POST with a JSON body (or another, where it says so) and answers JSON; an
error is <code>{{"message": "..."}}</code>. For programs:
<a href="openapi.json">openapi.json</a>.</p>
{sections}
</body></html>
"""


def _section(operation: Operation) -> str:
    example = orjson.dumps(operation.example, option=orjson.OPT_INDENT_2).decode()
    errors = "".join(f"<li><code>{status}</code> {escape(meaning)}</li>"
                     for status, meaning in sorted({**_COMMON, **operation.errors}.items()))
    forms = "" if operation.media_types == (JSON,) else \
        f"<p>Content-Type: {escape(' or '.join(operation.media_types))}.</p>\n"
    query = "" if not operation.parameters else \
        f"<p>In the query:</p>\n<ul>{_items(operation.parameters)}</ul>\n"
    return (f"<h2><code>POST {escape(operation.path)}</code></h2>\n<p>{escape(operation.summary)}."
            f"</p>\n{forms}<ul>{_items(operation.request['properties'])}</ul>\n{query}"
            f"<pre>{escape(example)}</pre>\n<ul>{errors}</ul>")


def _items(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    return "".join(f"<li><code>{escape(name)}</code> {escape(schema.get('description', ''))}</li>"
                   for name, schema in schemas.items())
