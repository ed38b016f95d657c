"""A deployment, the states of its life, and the allowed transitions. Pure: time is a parameter."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.prediction import Prediction
from penstock.policy.place.intent import Criteria
from penstock.policy.place.values import Placement

_LONGEST_NAME = 64


class State(StrEnum):
    """State of a deployment's life."""

    REGISTERED = "registered"
    PROFILING = "profiling"
    PROFILED = "profiled"
    DEPLOYING = "deploying"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


FOLLOWING: Mapping[State, frozenset[State]] = MappingProxyType({
    State.REGISTERED: frozenset({State.PROFILING, State.DEPLOYING, State.REMOVING}),
    State.PROFILING: frozenset({State.PROFILED, State.FAILED}),
    State.PROFILED: frozenset({State.PROFILING, State.DEPLOYING, State.REMOVING}),
    State.DEPLOYING: frozenset({State.RUNNING, State.FAILED}),
    State.RUNNING: frozenset({State.UNHEALTHY, State.REMOVING}),
    State.UNHEALTHY: frozenset({State.RUNNING, State.FAILED, State.REMOVING}),
    State.FAILED: frozenset({State.PROFILING, State.DEPLOYING, State.REMOVING}),
    State.REMOVING: frozenset({State.REMOVED}),
    State.REMOVED: frozenset({State.REGISTERED}),
})
"""Allowed next states. A removed name may be registered anew."""

HOLDING = frozenset({State.DEPLOYING, State.RUNNING, State.UNHEALTHY, State.REMOVING})
"""States in which memory of accelerators may be held."""

AT_WORK = frozenset({State.PROFILING, State.DEPLOYING, State.REMOVING})
"""States that last while an operation is in progress. After a crash, the operation has been
lost."""


class RefusedError(Exception):
    """Error for a well-formed order that cannot be carried out now.

    ``code`` is ``state`` (not in this state), ``busy`` (another operation is in progress),
    ``no_room`` (accelerators lack memory), ``no_configuration`` (none meets the criteria),
    ``not_profiled``, ``not_attested`` (it is confidential, and its accelerators are not attested),
    ``cancelled``, ``engine`` (it failed or does not answer). ``details`` is for programs.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True)
class Instance:
    """An engine that was started. ``started`` is the operating system's start time of the process,
    which tells it from a later process with the same ``pid``; ``pid`` 0 means no process.
    ``served_as`` is the model's name in the engine's API, ``log`` the file of its output."""

    url: str
    pid: int = 0
    started: str = ""
    log: str = ""
    served_as: str = ""


@dataclass(frozen=True, slots=True)
class DeployIntent:
    """Intent of a deploy: the best configuration by ``criteria``, or exactly ``configuration``.

    Latency is estimated for answers of ``output_tokens``, and ``batch`` requests run at once.
    ``accuracy`` is a table with MaverIQ's keys. A ``confidential`` deployment runs and answers on
    attested accelerators only.
    """

    criteria: Criteria = field(default_factory=Criteria)
    configuration: Configuration | None = None
    output_tokens: int = 100
    batch: int = 1
    placer: str = "penstock"
    accuracy: Mapping[str, float] = field(default_factory=dict)
    confidential: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """Predictions for a deployment at the time of the decision: seconds of an answer (or batch),
    and bytes over all its accelerators. None where there was no measurement."""

    latency_s: Prediction | None
    memory_bytes: Prediction | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model under a name, with all state that must outlive this process.

    ``engine`` is the kind of engine, ``options`` the options of its registration, ``profile`` the
    folder of its profile. ``configuration``, ``placement`` and ``expected`` belong to the latest
    deploy; ``placement`` is None in states that hold no memory. ``num_failures`` counts failures
    since the deployment was last healthy; the next start is not before ``retry_s``. Moments are in
    seconds since 1970.
    """

    name: str
    model: str
    engine: str
    registered_s: float
    since_s: float
    options: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.REGISTERED
    reason: str = ""
    profile: str | None = None
    intent: DeployIntent | None = None
    configuration: Configuration | None = None
    placement: Placement | None = None
    expected: Expected | None = None
    instance: Instance | None = None
    num_failures: int = 0
    retry_s: float = 0.0

    @property
    def devices(self) -> tuple[int, ...]:
        """Serial numbers of the deployment's accelerators."""
        return () if self.placement is None else self.placement.device_ids


def check_name(name: str) -> None:
    """Raises InputError for a name that is invalid in file names or URLs."""
    if not 0 < len(name) <= _LONGEST_NAME or not name[0].isalnum() or \
            not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        raise InputError(f"name: {name[:80]!r}; expected at most {_LONGEST_NAME} letters, digits, "
                         "'-', '_' and '.', a letter or digit first")


def moved(one: Deployment, state: State, now_s: float, reason: str = "",
          **changes: Any) -> Deployment:
    """Return the deployment in its next state, without the fields that this state does not have.

    Raises RefusedError for a transition that is not allowed.
    """
    if state not in FOLLOWING[one.state]:
        raise RefusedError("state", f"{one.name} is {one.state}: it cannot become {state}",
                           {"name": one.name, "state": str(one.state)})
    after = replace(one, state=state, since_s=now_s, reason=reason, **changes)
    if state not in HOLDING:
        after = replace(after, placement=None, instance=None)
    if state in (State.FAILED, State.DEPLOYING):
        after = replace(after, num_failures=0, retry_s=0.0)
    return after


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff of restarts: the first after ``first_s``, each later one after twice the
    delay up to ``longest_s``, at most ``most`` restarts in a row."""

    first_s: float = 1.0
    longest_s: float = 60.0
    most: int = 5

    def delay_s(self, num_failures: int) -> float | None:
        """Return the seconds until the next start after so many failures, None to give up."""
        if num_failures > self.most:
            return None
        return float(min(self.longest_s, self.first_s * 2.0 ** max(0, num_failures - 1)))


def failed_again(one: Deployment, now_s: float, reason: str, backoff: Backoff) -> Deployment:
    """Return an unhealthy deployment after one more failure: either with the time of its next
    start, or failed for good without its memory."""
    num = one.num_failures + 1
    delay_s = backoff.delay_s(num)
    if delay_s is None:
        return moved(one, State.FAILED, now_s,
                     f"given up after {one.num_failures} starts: {reason}")
    return replace(one, reason=reason, num_failures=num, retry_s=now_s + delay_s)


def after_crash(one: Deployment, now_s: float) -> Deployment:
    """Return a deployment's state after a crash of its controller, once its processes are stopped.

    A removal continues. An unfinished profile or deploy has failed and holds no memory.
    """
    if one.state == State.REMOVING:
        return moved(one, State.REMOVED, now_s)
    if one.state == State.PROFILING:
        return moved(one, State.FAILED, now_s, "profiling was interrupted; the same command goes "
                                               "on with the points that are left")
    if one.state == State.DEPLOYING:
        return moved(one, State.FAILED, now_s, "deploying was interrupted")
    return one
