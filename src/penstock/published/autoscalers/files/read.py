"""Reads an autoscaler's own file, whichever autoscaler the file is of."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.fleet.files import read_text
from penstock.fleet.marked_yaml import read_yaml
from penstock.published.autoscalers.files import dynamo, ray_serve
from penstock.published.autoscalers.files.aibrix import read_aibrix
from penstock.published.autoscalers.files.fields import Fields
from penstock.published.autoscalers.files.hpa import read_hpa
from penstock.published.autoscalers.files.keda import read_keda
from penstock.published.autoscalers.files.knative import read_pod_autoscaler, read_service
from penstock.published.autoscalers.files.values import FileScaler

Reader = Callable[[Fields], FileScaler]

_KNATIVE = "autoscaling.internal.knative.dev/"


def _pod_autoscaler(document: Fields) -> FileScaler:
    """Read a PodAutoscaler of AIBrix or of Knative."""
    version = document.raw("apiVersion")
    of_knative = isinstance(version, str) and version.startswith(_KNATIVE)
    return (read_pod_autoscaler if of_knative else read_aibrix)(document)


KINDS: Mapping[str, Reader] = {
    "HorizontalPodAutoscaler": read_hpa, "ScaledObject": read_keda, "Service": read_service,
    "PodAutoscaler": _pod_autoscaler}
"""Readers by the ``kind`` of an object of Kubernetes."""

FORMS = f"{', '.join(KINDS)}, autoscaling_config of Ray Serve or a planner's of Dynamo"
"""Supported forms, for messages."""


def scaler_of_file(path: str) -> dict[str, Any]:
    """Return the scale policy of an autoscaler's file, as a fleet file has it. Raises InputError
    with file, line and field."""
    text = read_text(Path(path), "an autoscaler's file")
    if not text.strip():
        raise InputError(f"{path}: empty; expected the file of an autoscaler: {FORMS}")
    marked = read_yaml(text, path)
    if not isinstance(marked.data, dict):
        raise InputError(f"{path}: expected a mapping, the file of an autoscaler: {FORMS}")
    document = Fields(marked)
    return _reader(document)(document).choice()


def _reader(document: Fields) -> Reader:
    if any(document.raw(key) is not None for key in ray_serve.FORMS):
        return ray_serve.read_ray
    kind = document.raw("kind")
    if isinstance(kind, str):
        if kind not in KINDS:
            raise document.error("kind", f"{kind[:60]!r} is no autoscaler that Penstock knows"
                                         f"{nearest(kind[:60], KINDS)}")
        return KINDS[kind]
    if any(document.raw(key) is not None for key in dynamo.FORMS):
        return dynamo.read_dynamo
    raise document.error(None, f"expected the file of an autoscaler: {FORMS}")
