"""``/v1/plan``: a fleet file in, the document of its plan out.

A request cannot name a file of the server. Traffic has built-in lengths, or lengths from a table in
the fleet file itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from penstock.core.errors import InputError, nearest, one_of
from penstock.fleet.declared import field_value
from penstock.fleet.document import FleetDocument
from penstock.fleet.files import decoded
from penstock.fleet.load import parse_fleet
from penstock.fleet.request_plan import PlanQuery
from penstock.fleet.schema import query_schemas, request_schema
from penstock.fleet.settings import parse_settings
from penstock.fleet.values import Fleet
from penstock.serving.planning.operation import (
    JSON,
    Answer,
    Operation,
    number_schema,
    object_schema,
)

PATH = "/v1/plan"
SOURCE = "body"
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
EXAMPLE = {
    "name": "chat", "accelerators": [{"name": "a100-80gb", "count": 4, "price_per_hour": 4.1}],
    "models": [{"name": "llama-3.1-8b"}],
    "service_classes": [{"name": "chat", "slo": {"ttft_s": 2, "itl_s": 0.05}}],
    "traffic": [{"trace": "azure-2023-conv", "rate_per_s": 5, "num_requests": 100}]}

# JSON escapes code points beyond 16 bits as surrogate pairs, which YAML cannot express.
_HALVES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_ESCAPE = re.compile(r"\\\\|" + _HALVES.pattern)


@dataclass(frozen=True, slots=True)
class Order:
    """A fleet file's text with the query's parameters. ``what_if`` has ``KEY=VALUE`` texts;
    ``today`` is the date by which prices are old, empty where no price is."""

    text: str
    seed: int | None = None
    what_if: tuple[str, ...] = ()
    time_limit_s: float | None = None
    today: str = ""


def order_of(content: bytes, media_type: str, query: Sequence[tuple[str, str]]) -> Order:
    """Return the order of a request. Raises InputError."""
    known = PlanQuery.model_fields
    given: dict[str, Any] = {}
    for name, value in query:
        if name not in known:
            raise InputError(f"query: unknown parameter {name[:60]!r}{nearest(name, known)}")
        if name == "what_if":
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InputError(f"query: {name}: appears twice")
        else:
            given[name] = _value(name, value)
    text = decoded(content, SOURCE)
    said = PlanQuery.model_construct(**given)
    return Order(_as_yaml(text) if media_type == JSON else text, said.seed, tuple(said.what_if),
                 said.time_limit_s)


def _value(name: str, text: str) -> Any:
    try:
        return field_value(f"plan:{name}", text)
    except InputError as error:
        raise InputError(f"query: {name}: {error}") from None


def _as_yaml(text: str) -> str:
    """Return JSON text as YAML, with every line in its place."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{SOURCE}: is not JSON ({error})") from None
    return _ESCAPE.sub(_whole, text)


def _whole(found: re.Match[str]) -> str:
    if found[1] is None:  # an escaped backslash
        return found[0]
    high, low = int(found[1], 16), int(found[2], 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def answer(order: Order) -> Answer:
    """Return the plan of an order as ``penstock plan --json`` prints it. Raises InputError."""
    from penstock.plan.document import full_document

    fleet = _fleet(order, ())
    other = _fleet(order, order.what_if) if order.what_if else None
    plan = _planned(fleet)
    return Answer(full_document(plan, None if other is None else (order.what_if, _planned(other)),
                                date.fromisoformat(order.today) if order.today else None))


def _fleet(order: Order, what_if: Sequence[str]) -> Fleet:
    overrides = parse_settings(what_if, "what_if")
    if order.seed is not None:
        overrides["run.seed"] = order.seed
    return parse_fleet(order.text, SOURCE, overrides, base=None, to_plan=True)


def _planned(fleet: Fleet) -> Any:
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    return plan_fleet(fleet, solve)


def plan(body: Any) -> Answer:
    """Return the plan of a parsed fleet file."""
    if not isinstance(body, Mapping):
        raise InputError(f"{SOURCE}: found {type(body).__name__}; expected a fleet file's sections")
    return answer(Order(orjson.dumps(body).decode()))


def unsupported(media_type: str) -> str:
    """Return the error message for an unsupported Content-Type."""
    return (f"Content-Type: found {media_type[:60]}{one_of((JSON, YAML[0]))} "
            "(curl: -H 'Content-Type: application/yaml' --data-binary @fleet.yaml)")


def operation() -> Operation:
    """Return the endpoint with its description. Reads the fleet file's schema, which takes a
    moment."""
    return Operation(
        PATH, "The least-cost replicas for a fleet file, checked by simulation: what plan.json "
        "holds (docs/reference/plan-json.md). Sections are those of a fleet file; none may name "
        "a file. Exit status 1 of the command line is served_in_full: false here", plan,
        request_schema(FleetDocument, leave_out=("catalog",)),
        object_schema({
            "name": {"type": "string"}, "version": {"type": "string"},
            "served_in_full": {"type": "boolean"}, "holds": {"type": "boolean"},
            "cost_per_hour": number_schema("of all replicas"),
            "replicas": {"type": "array", "description": "the fleet file's section of that name"},
            "optimum": object_schema({name: {"type": "number"}
                                      for name in ("objective", "bound", "gap")}),
            "demands": {"type": "array"}}),
        EXAMPLE,
        {415: "the body is neither JSON nor YAML by its Content-Type",
         422: "the plan needs more memory than the server gives it",
         429: "as many plans as the server takes are in progress or wait; Retry-After says when to "
              "ask again",
         504: "the plan was not made within the time limit, and is given up"},
        (JSON, YAML[0]), query_schemas(PlanQuery))
