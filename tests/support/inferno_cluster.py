"""Inferno's walkthrough as objects of a cluster: ConfigMaps and labelled Deployments."""

import json
from typing import Any

from support import inferno_bundles
from support.inferno_bundles import FILES

PREFIX = "inferno.server."
STATIC = ("acceleratorData", "modelData", "serviceClassData", "optimizerData")


def config_maps(system: dict[str, Any], namespace: str = "inferno") -> list[dict[str, Any]]:
    """The two ConfigMaps of a bundle."""
    def one(name: str, parts: tuple[str, ...]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace},
                "data": {FILES[part]: json.dumps(system[part]) for part in parts}}

    return [one("inferno-static-data", STATIC), one("inferno-dynamic-data", ("capacityData",))]


def load_labels(rpm: Any = "60", in_tokens: Any = "128", out_tokens: Any = "1024",
                nominal: str = "") -> dict[str, str]:
    """Labels of a load, or of a nominal one."""
    return {f"{PREFIX}load.{nominal}{name}": str(value) for name, value in (
        ("rpm", rpm), ("intokens", in_tokens), ("outtokens", out_tokens))}


def server_labels(name: str, service_class: str = "Premium", model: str = "small",
                  accelerator: str = "A", batch: int = 8, **load: Any) -> dict[str, str]:
    """Labels of a managed Deployment as in the walkthrough."""
    return {f"{PREFIX}managed": "true", f"{PREFIX}name": name, f"{PREFIX}model": model,
            f"{PREFIX}class": service_class, f"{PREFIX}allocation.accelerator": accelerator,
            f"{PREFIX}allocation.maxbatchsize": str(batch), **load_labels(**load),
            **load_labels(**load, nominal="nominal.")}


def deployment(name: str, labels: dict[str, str], replicas: int = 1,
               namespace: str = "infer") -> dict[str, Any]:
    """A Deployment of an engine that does nothing."""
    pods = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": pods},
                     "template": {"metadata": {"labels": {**pods, **{
                         label: value for label, value in labels.items()
                         if "allocation" in label}}},
                         "spec": {"containers": [{"name": "engine", "image": "none"}]}}}}


def put(there: Any, *documents: dict[str, Any]) -> None:
    """Write objects into a cluster in memory."""
    for one in documents:
        there.put(one["kind"], one)


def walkthrough(there: Any, system: dict[str, Any] | None = None) -> None:
    """Let a cluster in memory have the small bundle's data and its four servers."""
    put(there, *config_maps(system or inferno_bundles.document()["system"]),
        *(deployment(f"{name}-{model}".lower(), server_labels(
            f"{name}-{model}", name, model, rpm=rate))
          for name, rate in (("Premium", 60), ("Free", 120)) for model in ("small", "large")))
