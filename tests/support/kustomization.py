"""Renderer of kustomizations, for the forms that deploy/kustomize uses, and strict about others.

It knows resources, patches by strategic merge from files, ConfigMaps from files, a namespace,
labels and images. A test compares its output with kubectl's, where kubectl is installed.
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
KEYS = {"apiVersion", "kind", "resources", "patches", "configMapGenerator", "generatorOptions",
        "namespace", "labels", "images"}
CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}
MERGE_KEYS = {"containers": ["name"], "env": ["name"], "ports": ["containerPort", "port"],
              "volumes": ["name"], "volumeMounts": ["mountPath"]}
"""Lists whose elements a patch finds by a key. Any other list of mappings is refused, since the
schema of Kubernetes may or may not have a key for it."""


IMAGE = re.compile(r"([^@]+?)(?::([\w.-]+))?")  # a colon may also stand before a registry's port


class FormError(Exception):
    """A form of kustomizations that the renderer does not know, or an object out of place."""


class _Strict(yaml.SafeLoader):
    """Loader that refuses a mapping with the same key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise FormError(f"{node.start_mark}: a key stands twice")
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Document]:
    """The documents of a YAML text; an empty one is left out. An alias is a copy, so that a change
    in one place changes no other."""
    return [json.loads(json.dumps(one)) for one in yaml.load_all(text, _Strict) if one is not None]


def render(folder: Path) -> list[Document]:
    """The objects of a kustomization. Raises FormError."""
    (wanted,) = documents((folder / "kustomization.yaml").read_text())
    if unknown := set(wanted) - KEYS:
        raise FormError(f"{folder}: {sorted(unknown)}")
    if (wanted["apiVersion"], wanted["kind"]) != ("kustomize.config.k8s.io/v1beta1",
                                                  "Kustomization"):
        raise FormError(f"{folder}: not a Kustomization")
    objects = [one for name in wanted.get("resources", ()) for one in _resource(folder / name)]
    objects += _config_maps(folder, wanted)
    if len({identity(one) for one in objects}) < len(objects):
        raise FormError(f"{folder}: an object stands twice")
    for patch in wanted.get("patches", ()):
        if set(patch) != {"path"}:
            raise FormError(f"{folder}: patches need a path alone")
        for one in documents((folder / patch["path"]).read_text()):
            _patch(objects, one)
    if namespace := wanted.get("namespace"):
        _set_namespace(objects, namespace)
    for label in wanted.get("labels", ()):
        if not set(label) <= {"pairs", "includeTemplates"}:
            raise FormError(f"{folder}: labels take pairs and includeTemplates")
        _set_labels(objects, label)
    for image in wanted.get("images", ()):
        _set_image(objects, image)
    return objects


def identity(one: Document) -> tuple[str, str, str, str]:
    """Group and version, kind, namespace and name of an object."""
    return (one["apiVersion"], one["kind"], one["metadata"].get("namespace", ""),
            one["metadata"]["name"])


def pod_templates(objects: list[Document]) -> Iterator[tuple[Document, Document]]:
    """Each workload with its pod template."""
    for one in objects:
        if one["kind"] == "Deployment":
            yield one, one["spec"]["template"]


def _resource(path: Path) -> list[Document]:
    return render(path) if path.is_dir() else documents(path.read_text())


def _config_maps(folder: Path, wanted: Document) -> list[Document]:
    made = wanted.get("configMapGenerator", [])
    if made and wanted.get("generatorOptions") != {"disableNameSuffixHash": True}:
        raise FormError(f"{folder}: names with hashes")
    for one in made:
        if set(one) != {"name", "files"}:
            raise FormError(f"{folder}: ConfigMaps are made from files alone")
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]},
             "data": {name: (folder / name).read_text() for name in one["files"]}} for one in made]


def _patch(objects: list[Document], patch: Document) -> None:
    found = [one for one in objects if identity(one) == identity(patch)]
    if len(found) != 1:
        raise FormError(f"{identity(patch)}: patched, but there are {len(found)}")
    objects[objects.index(found[0])] = merged(found[0], patch)


def merged(old: Any, new: Document) -> Document:
    """The strategic merge of a patch into a mapping."""
    result = copy.deepcopy(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            result[key] = _merged_list(key, result.get(key, []), value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merged_list(name: str, old: list[Document], new: list[Document]) -> list[Document]:
    keys = [key for key in MERGE_KEYS.get(name, ()) if all(key in one for one in (*old, *new))]
    if not keys:
        raise FormError(f"{name}: no merge key")
    key, kept, added = keys[0], {one[keys[0]]: one for one in old}, []
    for one in new:
        if one.get("$patch") == "delete":
            del kept[one[key]]
        elif one[key] in kept:
            kept[one[key]] = merged(kept[one[key]], one)
        else:
            added.append(one)
    return [*added, *kept.values()]  # kustomize's order


def _set_namespace(objects: list[Document], namespace: str) -> None:
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    for one in objects:
        if one["kind"] == "Namespace":
            one["metadata"]["name"] = namespace
        elif one["kind"] not in CLUSTER_KINDS:
            one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            if subject["kind"] == "ServiceAccount" and subject["name"] in accounts:
                subject["namespace"] = namespace


def _set_labels(objects: list[Document], label: Document) -> None:
    for one in objects:
        one["metadata"].setdefault("labels", {}).update(label["pairs"])
    if label.get("includeTemplates"):
        for _, template in pod_templates(objects):
            template["metadata"].setdefault("labels", {}).update(label["pairs"])


def _set_image(objects: list[Document], image: Document) -> None:
    for _, template in pod_templates(objects):
        for container in template["spec"]["containers"]:
            name, tag = IMAGE.fullmatch(container["image"]).groups()
            if name == image["name"]:
                tag = image.get("newTag", tag)
                container["image"] = image.get("newName", name) + (f":{tag}" if tag else "")
