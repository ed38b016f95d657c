"""Steps that bring a cluster nearer to what its fleets ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penstock.serving.kubernetes.names import MANAGER
from penstock.serving.kubernetes.objects import Document, Ref


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply the fields that a manager owns of an object, and create it where it does not exist.
    ``MANAGER`` takes fields from others; ``CREATOR`` does not."""

    document: Document
    manager: str = MANAGER


@dataclass(frozen=True, slots=True)
class Release:
    """Let the creator of a workload own nothing of it but its number of replicas, whatever the
    number is then: somebody may have scaled the workload since it was seen."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object with fields that others own afterwards."""

    document: Document


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object that Penstock created."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Scale:
    """Set the replicas of a workload, by its scale subresource, if they still are ``before``: who
    has seen something else must not write over it. ``before`` is None for a new workload."""

    ref: Ref
    replicas: int
    before: int | None


@dataclass(frozen=True, slots=True)
class Annotate:
    """Set an annotation of a pod."""

    ref: Ref
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Label:
    """Set labels of an object, and its replicas in the same request unless they are None."""

    ref: Ref
    labels: Mapping[str, str]
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Set the status of an object."""

    ref: Ref
    status: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tell:
    """Record an Event about an object. Events of one kind, reason and subject are one object, which
    counts them and has the last message."""

    ref: Ref
    uid: str
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    subject: str = ""


Action = Apply | Release | Create | Delete | Scale | Annotate | Label | SetStatus | Tell
