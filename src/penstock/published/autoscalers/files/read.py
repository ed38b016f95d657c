"""Reads an autoscaler's own file, whichever autoscaler the file is of."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.fleet.files import read_text
from penstock.fleet.marked_yaml import read_yaml
from penstock.published.autoscalers.files.fields import Fields
from penstock.published.autoscalers.files.hpa import read_hpa
from penstock.published.autoscalers.files.values import FileScaler

Reader = Callable[[Fields], FileScaler]

KINDS: Mapping[str, Reader] = {"HorizontalPodAutoscaler": read_hpa}
"""Readers by the ``kind`` of an object of Kubernetes."""

FORMS = ", ".join(KINDS)
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
    kind = document.raw("kind")
    if isinstance(kind, str):
        if kind not in KINDS:
            raise document.error("kind", f"{kind[:60]!r} is no autoscaler that Penstock knows"
                                         f"{nearest(kind[:60], KINDS)}")
        return KINDS[kind]
    raise document.error(None, f"expected the file of an autoscaler: {FORMS}")
