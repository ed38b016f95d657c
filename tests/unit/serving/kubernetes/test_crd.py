"""Custom resource definitions from the declaration of the fleet file."""

import json

import pytest
import yaml

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes.crd import definitions, structural
from support import cluster_objects as cluster


@pytest.fixture(scope="module")
def schema():
    version, = definitions()[0]["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


FORBIDDEN = {"$ref", "$defs", "definitions", "patternProperties", "prefixItems", "const",
             "propertyNames", "examples", "anyOf", "oneOf", "title"}


def walked(schema, path=""):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walked(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walked(schema[key], f"{path}[]")


def test_the_schema_is_structural(schema):
    for path, node in walked(schema):
        assert not FORBIDDEN & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_field_of_the_file_is_in_it(schema):
    paths = {path for path, _ in walked(schema)}
    for name in (".replicas[].kubernetes.create.image", ".scaling.observe.prometheus",
                 ".service_classes[].slo.ttft_s", ".traffic[].rate_per_s", ".policies.scale"):
        assert name in paths


def defaulted(schema, value):
    """What the API server makes of a value: defaults for what is left out of what is there, and
    unknown fields gone."""
    if isinstance(value, dict) and "properties" in schema:
        keeps = schema.get("x-kubernetes-preserve-unknown-fields")
        found = {key: defaulted(schema["properties"][key], inner) if key in schema["properties"]
                 else inner for key, inner in value.items() if key in schema["properties"] or keeps}
        for name, inner in schema["properties"].items():
            if name not in found and "default" in inner:
                found[name] = inner["default"]
        return found
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return {key: defaulted(schema["additionalProperties"], inner)
                for key, inner in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], one) for one in value]
    return value


def test_the_defaults_of_the_api_server_change_no_fleet(schema, repository):
    num_read = 0
    for path in sorted((repository / "examples").glob("*.yaml")):
        text = path.read_text()
        data = yaml.safe_load(text)
        if "accelerators" not in data:
            continue
        try:
            plain = parse_fleet(json.dumps(data), path.stem, base=path.parent)
        except Exception:
            continue  # an example that needs data of its own
        again = parse_fleet(json.dumps(defaulted(schema, data)), path.stem, base=path.parent)
        assert again == plain, path
        num_read += 1
    assert num_read >= 10
    for text in (cluster.text_of(), cluster.text_of(text=cluster.SCALED)):
        data = yaml.safe_load(text)
        assert parse_fleet(json.dumps(defaulted(schema, data))) == parse_fleet(text)
    planned = defaulted(schema, yaml.safe_load(cluster.PLANNED))
    assert parse_fleet(json.dumps(planned), to_plan=True) == parse_fleet(cluster.PLANNED,
                                                                         to_plan=True)


def test_what_has_several_types_is_left_to_penstock():
    found = structural({"type": "object", "properties": {
        "a": {"anyOf": [{"type": "string"}, {"type": "object"}], "description": "A."},
        "b": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]}}})
    assert found["properties"]["a"] == {"x-kubernetes-preserve-unknown-fields": True,
                                        "description": "A."}
    assert found["properties"]["b"] == {"type": "integer", "minimum": 0, "exclusiveMinimum": True}


def test_a_group_has_a_scale_and_a_fleet_a_status():
    fleet, group = (one["spec"]["versions"][0] for one in definitions())
    assert group["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector"}
    assert "status" in fleet["subresources"]
    assert [one["name"] for one in fleet["additionalPrinterColumns"]][-1] == "Age"
