"""Custom resource definitions, from the declaration of the fleet file."""

from collections.abc import Mapping
from typing import Any

from penstock.fleet.schema import fleet_schema
from penstock.serving.kubernetes.names import GROUP, VERSION

_KEPT = ("type", "description", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern",
         "minItems", "maxItems", "format", "required")
ANYTHING: Mapping[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
"""Schema of a value of which the API server checks nothing; Penstock does."""

# In these sections, a field that is left out means an engine's own default or schedule, not the
# field's default. The API server would write the field's default into the object.
_WITHOUT_DEFAULTS = frozenset({"EngineSection", "PoliciesSection"})

_INTEGER, _NUMBER, _STRING = {"type": "integer"}, {"type": "number"}, {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_CONDITIONS = {
    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    "items": {"type": "object",
              "required": ["type", "status", "lastTransitionTime", "reason", "message"],
              "properties": {"type": _STRING,
                             "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                             "observedGeneration": {"type": "integer", "format": "int64"},
                             "lastTransitionTime": _TIME, "reason": _STRING, "message": _STRING}}}


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of Fleet and ReplicaGroup."""
    return [_definition("Fleet", "fl", _fleet_columns(), {
                "spec": structural(fleet_schema()), "status": _fleet_status()}, {"status": {}}),
            _definition("ReplicaGroup", "rg", _group_columns(), {
                "spec": {"type": "object", "required": ["fleet", "group"], "properties": {
                    "fleet": {**_STRING, "description": "Name of the Fleet."},
                    "group": {**_INTEGER, "minimum": 0,
                              "description":
                              "Number of the group in the Fleet's replicas when it was new."},
                    "replicas": {**_INTEGER, "minimum": 0, "description":
                                 "Replicas that an HPA, KEDA or a person wants; Penstock passes "
                                 "them on where the group's kubernetes.act is publish."}}},
                "status": {"type": "object", "properties": {
                    "replicas": _INTEGER, "readyReplicas": _INTEGER, "desiredReplicas": _INTEGER,
                    "selector": _STRING, "observedGeneration": _INTEGER, "workload": _STRING}}},
                {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                                         "statusReplicasPath": ".status.replicas",
                                         "labelSelectorPath": ".status.selector"}})]


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a structural schema of Kubernetes for a JSON Schema. Where the latter has several
    types for one value, the API server checks nothing."""
    return _structural(schema, schema.get("$defs", {}), "")


def _structural(schema: Mapping[str, Any], known: Mapping[str, Any], section: str
                ) -> dict[str, Any]:
    said = {key: schema[key] for key in ("description",) if key in schema}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {**_structural(known[name], known, name), **said}
    branches = [one for key in ("anyOf", "oneOf") for one in schema.get(key, ())]
    if branches:
        some = [one for one in branches if one != {"type": "null"}]
        found = _structural(some[0], known, section) if len(some) == 1 else dict(ANYTHING)
        return {**found, **said}
    if "type" not in schema:
        return {**ANYTHING, **said}
    found = {key: schema[key] for key in _KEPT if key in schema}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            found |= {bound: schema[exclusive], exclusive: True}
    if schema["type"] == "array":
        found["items"] = _structural(schema.get("items", {}), known, section)
    if schema["type"] == "object":
        found |= _object(schema, known, section)
    return found


def _object(schema: Mapping[str, Any], known: Mapping[str, Any], section: str) -> dict[str, Any]:
    if "properties" not in schema:
        values = [*schema.get("patternProperties", {}).values()]
        more = values[0] if values else schema.get("additionalProperties")
        if not isinstance(more, Mapping) or not more:
            return dict(ANYTHING)
        return {"additionalProperties": _structural(more, known, section)}
    found: dict[str, Any] = {"properties": {}}
    for name, inner in schema["properties"].items():
        made = _structural(inner, known, section)
        default = inner.get("default")
        if isinstance(default, str | int | float) and section not in _WITHOUT_DEFAULTS:
            made["default"] = default
        found["properties"][name] = made
    if schema.get("additionalProperties") is True:
        found |= ANYTHING
    return found


def _fleet_status() -> dict[str, Any]:
    group = {"type": "object", "properties": {
        "number": _INTEGER, "name": _STRING, "model": _STRING, "accelerator": _STRING,
        "act": _STRING, "workload": _STRING, "target": _INTEGER, "replicas": _INTEGER,
        "ready": _INTEGER, "starting": _INTEGER, "draining": _INTEGER, "costPerHour": _NUMBER}}
    former = {"type": "object", "properties": {
        "workload": _STRING, "replicas": _INTEGER, "ready": _INTEGER, "draining": _INTEGER,
        "costPerHour": _NUMBER}}
    decision = {"type": "object", "properties": {
        "at": _TIME, "before": {"type": "array", "items": _INTEGER},
        "targets": {"type": "array", "items": _INTEGER}, "reason": _STRING,
        "attainment": _NUMBER, "terms": {"type": "object", "additionalProperties": _NUMBER}}}
    planned_group = {"type": "object", **ANYTHING, "description":
                     "An entry of the fleet file's replicas.", "properties": {
                         "variant": _STRING, "model": _STRING, "accelerator": _STRING,
                         "count": _INTEGER, "precision": _STRING, "costPerHour": _NUMBER}}
    demand = {"type": "object", "properties": {
        "name": _STRING, "model": _STRING, "ratePerSecond": _NUMBER, "headroom": _NUMBER,
        "attainment": _NUMBER}}
    plan = {"type": "object", "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"}, "costPerHour": _NUMBER,
        "groups": {"type": "array", "items": planned_group},
        "demands": {"type": "array", "items": demand}}}
    return {"type": "object", "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"}, "plan": plan,
        "conditions": _CONDITIONS, "policy": _STRING, "models": _STRING, "replicas": _STRING,
        "attainment": _NUMBER, "costPerHour": _NUMBER, "boundCostPerHour": _NUMBER,
        "groups": {"type": "array", "items": group},
        "retiring": {"type": "array", "items": former},
        "decisions": {"type": "array", "items": decision}}}


def _fleet_columns() -> list[dict[str, Any]]:
    return [_column("Models", "string", ".status.models"),
            _column("Policy", "string", ".status.policy"),
            _column("Replicas", "string", ".status.replicas"),
            _column("Cost/h", "number", ".status.costPerHour"),
            _column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status"),
            _column("Age", "date", ".metadata.creationTimestamp")]


def _group_columns() -> list[dict[str, Any]]:
    return [_column("Fleet", "string", ".spec.fleet"),
            _column("Workload", "string", ".status.workload"),
            _column("Desired", "integer", ".status.desiredReplicas"),
            _column("Replicas", "integer", ".status.replicas"),
            _column("Ready", "integer", ".status.readyReplicas"),
            _column("Age", "date", ".metadata.creationTimestamp")]


def _column(name: str, kind: str, path: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path}


def _definition(kind: str, short: str, columns: list[dict[str, Any]],
                properties: dict[str, Any], subresources: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural,
                      "singular": kind.lower(), "shortNames": [short],
                      "categories": ["penstock"]},
            "versions": [{
                "name": VERSION, "served": True, "storage": True, "subresources": subresources,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"],
                                               "properties": properties}}}]}}
