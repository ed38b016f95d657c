"""A Fleet as the controller keeps it."""

from dataclasses import dataclass, field

from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.fleet_run import FleetRun
from penstock.serving.kubernetes.interests import Interests
from penstock.serving.kubernetes.objects import Document, FleetObject, Ref
from penstock.serving.kubernetes.planned import Plan
from penstock.serving.kubernetes.planning import Unplanned
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.kubernetes.retire import Retired
from penstock.serving.kubernetes.status import Condition, accepted, planned


@dataclass(slots=True)
class Controlled:
    """A Fleet as the controller keeps it: its run, None where its file is not valid, the problem of
    the file, the states of its groups, and what was applied last. ``planned`` is None where the
    file states the groups, and ``plan`` is that of the run."""

    fleet: FleetObject
    run: FleetRun | None = None
    plan: Plan | None = None
    planned: Plan | Unplanned | None = None
    drawn: tuple[Document, Fleet] | None = None
    problem: str | None = None
    states: list[GroupState] = field(default_factory=list)
    gone: list[Retired] = field(default_factory=list)
    applied: dict[Ref, tuple[Document, float]] = field(default_factory=dict)
    warned: tuple[str, int] | None = None
    interests: Interests | None = None

    def first(self) -> list[Condition]:
        """Return the conditions of the file, and of its plan."""
        return [accepted(self.problem),
                *([] if self.planned is None or self.problem else [planned(self.planned)])]
