"""The command line, the fleet file and the REST API say the same of every field that they share."""

from collections.abc import Iterator
from inspect import Parameter as Signed
from inspect import signature
from typing import Any, NamedTuple, get_type_hints

import pytest
import typer

from penstock.cli.command import _FIELD, FieldText
from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass
from penstock.fleet.declared import checked, declared
from penstock.fleet.document import FleetDocument
from penstock.fleet.document_gateway import RequestParametersSection
from penstock.fleet.fields import limits_of
from penstock.fleet.requests import REQUESTS, read_request
from penstock.fleet.schema import fleet_schema, request_schema
from penstock.serving.gateway.ask import Offer
from penstock.serving.gateway.openapi import openapi as gateway_openapi
from penstock.serving.gateway.request_parameters import KINDS as KINDS_OF_PARAMETERS
from penstock.serving.planning import deployments_openapi, fleet_plan, openapi
from penstock.serving.planning.operations import OPERATIONS
from support.all_commands import commands

COMMANDS = {"register": ("/v1/deployments", "deployments register"),
            "profile": ("/v1/deployments/{name}/profile", "deployments profile"),
            "deploy": ("/v1/deployments/{name}/deploy", "deployments deploy"),
            "infer": ("/v1/deployments/{name}/infer", "deployments infer"),
            "remove": ("/v1/deployments/{name}/remove", "deployments remove"),
            "plan": ("/v1/plan", "plan"), "queue": ("/v1/queue/solve", "lab queue solve"),
            "size": ("/v1/queue/size", "lab queue size"),
            "optimize": ("/v1/queue/optimize", "lab queue optimize")}
"""Requests, by the name of their fields, with the path and the command that ask the same."""
KINDS = {**REQUESTS, "optimize": REQUESTS["size"]}
SAME = {"plan:seed": "run.seed", "profile:seed": "run.seed", "profile:engine": "register:engine",
        "profile:settings": "register:options",
        "deploy:configuration.tensor": "replicas.parallelism.tensor",
        "deploy:configuration.pipeline": "replicas.parallelism.pipeline"}
"""Fields of requests that another declaration is the source of, which the option names."""
REST_ALONE = {"profile:wait", "deploy:wait", "remove:wait",  # a command waits until it is done
              "infer:messages", "infer:stop"}
OWN_DEFAULTS = {
    ("profile estimate", "--intent"): "min_cost", ("profile fingerprint", "--design"): "penstock",
    ("profile model", "--output-tokens"): 16, ("profile batch", "--output-tokens"): 16,
    ("profile fit kernels", "--precision"): "bf16", ("profile fit rates", "--precision"): "bf16",
    ("profile fit kernels", "--kv-precision"): "bf16",
    ("catalog explain", "--precision"): "bf16", ("catalog explain", "--kv-precision"): "bf16",
    ("lab place", "--requests"): 300, ("lab experiment variance", "--requests"): 20,
    ("lab experiment variance", "--max-tokens"): 256, ("lab collect", "--max-tokens"): 512,
    ("lab engine", "--kv-tokens"): 8192, ("lab engine", "--max-step-tokens"): 512,
    ("lab engine", "--kv-precision"): "f16", ("lab plan-server", "--time-limit"): 120.0}
"""Defaults of commands that differ from the field's: other commands than the request's own."""
REQUIRED = Signed.empty
WORDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


class Parameter(NamedTuple):
    """A parameter of a command that names the field at ``path``: as Typer declares it, and its
    default."""

    command: str
    option: str
    path: str
    info: Any
    default: Any


def parameters() -> Iterator[Parameter]:
    for words, function in commands():
        for name, kind in get_type_hints(function, include_extras=True).items():
            for info in getattr(kind, "__metadata__", ()):
                option = str(info.default)  # where Typer keeps the name of an annotated option
                for field in _FIELD.finditer(info.help or ""):
                    yield Parameter(words, option if option.startswith("--") else name, field[2],
                                    info, signature(function).parameters[name].default)


STATED = tuple(parameters())
FIELDS = sorted({one.path for one in STATED})


def described() -> dict[str, Any]:
    """Schemas of the fields of each request, by request, as OpenAPI's documents have them."""
    planning = openapi.openapi_document((*OPERATIONS, fleet_plan.operation()))
    paths = planning["paths"] | deployments_openapi.openapi_document()["paths"]
    found = {}
    for name, (path, _) in COMMANDS.items():
        entry = paths[path]["post"]
        found[name] = entry["requestBody"]["content"]["application/json"]["schema"]
    found["plan"] = {"properties": {one["name"]: one["schema"] | {"description": one["description"]}
                                    for one in paths["/v1/plan"]["post"]["parameters"]}}
    assert planning["components"]["schemas"]["FleetDocument"] == request_schema(
        FleetDocument, ("catalog",))
    return found


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of an object that is no object of fields itself, with its path."""
    for name, one in schema["properties"].items():
        branches = [one, *one.get("anyOf", ())]
        inner = next((branch for branch in branches if "properties" in branch), None)
        if inner is None:
            yield f"{path}{name}", one
        else:
            yield from leaves(inner, f"{path}{name}.")


def bounds(schema: dict[str, Any]) -> dict[str, float]:
    """A field's bounds, in the words of its declaration."""
    return {WORDS[key]: value for part in (schema, *schema.get("anyOf", ()),
                                           schema.get("items", {}))
            for key, value in part.items() if key in WORDS}


def spread(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema with everything that it allows."""
    yield schema
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("items")):
        if inner:
            yield from spread(inner)


def limits(path: str) -> dict[str, float]:
    return {name: limit for name, limit in limits_of(declared(path)) if name in WORDS.values()}


def test_every_option_that_names_a_field_is_read_as_that_field() -> None:
    assert len(FIELDS) > 60
    for one in STATED:
        if one.info.parser is not None:
            assert one.info.parser.path == one.path, one
        else:  # a flag, a word, a list or a file: nothing of its own that could differ
            assert not limits(one.path) or one.path == "profile:depths", one
        assert one.info.min is None, one
        assert one.info.max is None, one


def test_a_default_of_a_command_is_that_of_the_field_or_listed() -> None:
    unlisted = {}
    for one in STATED:
        if one.default not in (None, REQUIRED, declared(one.path).default):
            unlisted[one.command, one.option] = one.default
    assert unlisted == OWN_DEFAULTS


@pytest.mark.parametrize("request_name", COMMANDS)
def test_a_request_has_the_fields_of_its_command(request_name: str) -> None:
    _, command = COMMANDS[request_name]
    stated = {one.path for one in STATED if one.command == command}
    source = "size" if request_name == "optimize" else request_name
    for path, schema in leaves(described()[request_name]):
        field = f"{source}:{path}"
        if field not in REST_ALONE:
            names = {SAME.get(field, field), f"queue:{path}"}
            assert names & stated, f"{command} has no option for {field}"
        found = declared(field)
        assert bounds(schema) == limits(field), field
        assert schema.get("description") == found.description, field
        if "default" in schema:
            assert schema["default"] == found.default, field


@pytest.mark.parametrize(("field", "source"), SAME.items())
def test_a_field_that_is_declared_elsewhere_says_the_same(field: str, source: str) -> None:
    ours, theirs = declared(field), declared(source)
    assert limits(field) == limits(source)
    assert ours.examples == theirs.examples
    assert (ours.description or "").startswith((theirs.description or "").rstrip("."))


def test_the_fleet_files_schema_has_the_ranges_and_defaults_of_options() -> None:
    schema = request_schema(FleetDocument)
    assert set(fleet_schema()["properties"]) == set(schema["properties"])
    for path in FIELDS:
        if ":" not in path:
            node: dict[str, Any] = schema
            for part in path.split("."):
                node = next(branch["properties"][part] for branch in spread(node)
                            if part in branch.get("properties", {}))
            assert bounds(node) == limits(path), path
            assert node.get("default") == declared(path).default, path
            assert node["description"] == declared(path).description, path


def test_request_parameters_of_the_gateway_are_those_of_the_fleet_file() -> None:
    entry = gateway_openapi(Offer({"chat": ServiceClass("chat")}, {"m": 10}))["paths"][
        "/v1/completions"]["post"]
    body = entry["requestBody"]["content"]["application/json"]["schema"]["properties"]["penstock"]
    headers = {one["name"]: one["schema"] for one in entry["parameters"]}
    for name in set(RequestParametersSection.model_fields) - {"service_class"}:
        path = f"gateway.tenants.defaults.{name}"
        kind = KINDS_OF_PARAMETERS[name]
        assert bounds(body["properties"][name]) == bounds(headers[kind.header]) == limits(path)
        for value in beyond(path):
            with pytest.raises(InputError) as by_file:
                checked(path, value)
            for found in (value, str(value)):
                with pytest.raises(InputError) as by_request:
                    kind.read(found)
                assert str(by_request.value) == str(by_file.value)


def beyond(path: str) -> list[float]:
    """Values just out of a field's range."""
    return [limit if name in ("gt", "lt") else limit - 1 if name == "ge" else limit + 1
            for name, limit in limits(path).items()]


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in FIELDS
                                             for value in beyond(path)])
def test_a_value_out_of_range_is_told_alike_everywhere(path: str, value: float) -> None:
    with pytest.raises(InputError) as by_file:
        checked(path, [value] if path == "profile:depths" else value)
    message = str(by_file.value)
    if path != "profile:depths":
        with pytest.raises(typer.BadParameter) as by_option:
            FieldText(path)(str(value))
        assert str(by_option.value) == message
    for field in (path, *(ours for ours, source in SAME.items() if source == path)):
        request, _, place = field.rpartition(":")
        if request:
            body: Any = [value] if path == "profile:depths" else value
            for part in reversed(place.split(".")):
                body = {part: body}
            with pytest.raises(InputError) as by_request:
                read_request(KINDS[request], body)
            where = "depths[0]" if path == "profile:depths" else place
            assert str(by_request.value) == f"{where}: {message}"
