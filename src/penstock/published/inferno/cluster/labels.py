"""Labels of Inferno on Deployments and pods.

Source: llm-inferno/control-loop ``pkg/controller/defaults.go``. Upstream takes a value that it
cannot read for 0; here the Deployment is left alone and its owner is told.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.errors import InputError, nearest, quote
from penstock.published.inferno.fields import MAX_COUNT
from penstock.published.inferno.values import DEFAULT_CLASS, Allocation, Load
from penstock.serving.kubernetes.objects import Document, Ref, workload

PREFIX = "inferno.server."
MANAGED = f"{PREFIX}managed"
NAME = f"{PREFIX}name"
MODEL = f"{PREFIX}model"
CLASS = f"{PREFIX}class"
ACCELERATOR = f"{PREFIX}allocation.accelerator"
MAX_BATCH = f"{PREFIX}allocation.maxbatchsize"
MAX_QUEUE = f"{PREFIX}allocation.maxqueuesize"
LOAD = f"{PREFIX}load."
NOMINAL = f"{LOAD}nominal."
RATE, INPUT_TOKENS, OUTPUT_TOKENS = "rpm", "intokens", "outtokens"

_PARTS = (RATE, INPUT_TOKENS, OUTPUT_TOKENS)
_OTHERS = (f"{PREFIX}evaluator", f"{PREFIX}vllm-deployment", f"{PREFIX}vllm-namespace",
           f"{PREFIX}pair-id")
KNOWN = frozenset({MANAGED, NAME, MODEL, CLASS, ACCELERATOR, MAX_BATCH, MAX_QUEUE, *_OTHERS,
                   *(f"{prefix}{part}" for prefix in (LOAD, NOMINAL) for part in _PARTS)})

SELECTOR = {MANAGED: "true"}
"""Labels of the Deployments that Inferno manages."""


@dataclass(frozen=True, slots=True)
class Managed:
    """A Deployment that is a server of Inferno. ``load`` is the one that its labels state, None
    where they state none."""

    ref: Ref
    uid: str
    name: str
    service_class: str
    model: str
    accelerator: str
    max_batch: int
    max_queue: int
    replicas: int
    load: Load | None
    selector: Mapping[str, str]


def managed(document: Document) -> Managed:
    """Read a Deployment. Raises InputError with the object and the label."""
    found = workload(document)
    labels = _Labels(place(found.ref), found.labels)
    return Managed(
        found.ref, document["metadata"].get("uid", ""), labels.text(NAME),
        labels.text(CLASS, DEFAULT_CLASS), labels.text(MODEL), labels.text(ACCELERATOR, ""),
        labels.count(MAX_BATCH), labels.count(MAX_QUEUE), found.replicas, labels.load(LOAD),
        found.selector)


def nominal_load(document: Document) -> Load:
    """Return the load around which the emulator lets a Deployment's walk. Raises InputError."""
    found = workload(document)
    load = _Labels(place(found.ref), found.labels).load(NOMINAL)
    if load is None:
        raise InputError(f"{place(found.ref)}: label {NOMINAL}{RATE} is missing; its load stays")
    return load


def place(ref: Ref) -> str:
    """Return the words for an object in messages."""
    return f"{ref.kind} {ref.namespace}/{ref.name}"


def unknown_labels(document: Document) -> list[str]:
    """Return a line for each label of Inferno's kind that Inferno does not know."""
    found = workload(document)
    return [f"{place(found.ref)}: label {label} is none of Inferno's and is ignored"
            f"{nearest(label, KNOWN)}"
            for label in sorted(found.labels) if label.startswith(PREFIX) and label not in KNOWN]


def load_labels(load: Load) -> dict[str, str]:
    """Return the labels that state a load."""
    return {f"{LOAD}{RATE}": f"{load.arrival_per_min:.4f}",
            f"{LOAD}{INPUT_TOKENS}": str(load.input_tokens),
            f"{LOAD}{OUTPUT_TOKENS}": str(load.output_tokens)}


def allocation_labels(allocation: Allocation) -> dict[str, str]:
    """Return the labels that state an allocation."""
    return {ACCELERATOR: allocation.accelerator, MAX_BATCH: str(allocation.max_batch)}


def carries_labels(labels: Mapping[str, str]) -> bool:
    """Whether a pod has labels of Inferno, which the programs in it may read."""
    return any(label.startswith(PREFIX) for label in labels)


class _Labels:
    """Labels of one object. ``where`` names it in errors."""

    def __init__(self, where: str, labels: Mapping[str, str]) -> None:
        self._where = where
        self._labels = labels

    def text(self, label: str, default: str | None = None) -> str:
        """A text; without ``default`` it must be there."""
        found = self._labels.get(label) or default
        if found is None:
            others = [one for one in self._labels if one.startswith(PREFIX) and one not in KNOWN]
            hint = f"; found {others[0]}" if others else ""
            raise InputError(f"{self._where}: label {label} is missing{hint}")
        return found

    def number(self, label: str) -> float:
        """A number of at least 0; 0 where the label is missing."""
        text = self._labels.get(label) or "0"
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not 0.0 <= found <= MAX_COUNT:
            raise InputError(f"{self._where}: label {label}: found {quote(text)}; expected a "
                             f"number from 0 to {MAX_COUNT}")
        return found

    def count(self, label: str) -> int:
        """A whole number of at least 0; 0 where the label is missing."""
        found = self.number(label)
        if found != int(found):
            raise InputError(f"{self._where}: label {label}: found {quote(self._labels[label])}; "
                             "expected a whole number")
        return int(found)

    def load(self, prefix: str) -> Load | None:
        """The load of three labels, None where the rate is not stated."""
        if not self._labels.get(f"{prefix}{RATE}"):
            return None
        rate = self.number(f"{prefix}{RATE}")
        if rate:  # without tokens it would count as no load, which takes all replicas away
            self.text(f"{prefix}{INPUT_TOKENS}")
            self.text(f"{prefix}{OUTPUT_TOKENS}")
        return Load(rate, self.count(f"{prefix}{INPUT_TOKENS}"),
                    self.count(f"{prefix}{OUTPUT_TOKENS}"))
