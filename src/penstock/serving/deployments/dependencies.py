"""Dependencies of the controller of deployments, and its restart policy."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.policy.place.beside import Neighbour
from penstock.policy.place.values import Device
from penstock.serving.deployments.choice import Decision
from penstock.serving.deployments.deployments import Backoff, DeployIntent, Deployment, Instance
from penstock.serving.deployments.engines import Engines

Choose = Callable[[Deployment, DeployIntent, list[Device], list[Neighbour]], Awaitable[Decision]]
Begun = Callable[[Instance], None]
Profile = Callable[[Deployment, Mapping[str, Any], Begun], Awaitable[str]]
ReadUsed = Callable[[Deployment], Awaitable[Mapping[int, int]]]


async def unread(_: Deployment) -> Mapping[int, int]:
    """Read no accelerator."""
    return {}


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Dependencies of a controller.

    ``engines`` are by kind. ``choose`` decides on a deployment, given devices and the neighbours on
    them; it raises RefusedError and InputError. ``profile`` measures a model by options: it reports
    the process that measures, then answers the profile's path; it raises EngineError and
    InputError. ``clock`` is the time of day in seconds. ``read_used`` reads the bytes in use by any
    process, by accelerator, as far as the accelerators of a deployment can be read.
    """

    engines: Mapping[str, Engines]
    choose: Choose
    profile: Profile
    clock: Callable[[], float]
    read_used: ReadUsed = unread
    on_bug: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Rules for the supervision of engines.

    An engine has ``grace_s`` to end before it is killed. It is unhealthy after
    ``failure_threshold`` health checks in a row without an answer. ``backoff`` says when it is
    started again, and its failures are forgotten once it has run for ``steady_s``.
    """

    grace_s: float = 10.0
    failure_threshold: int = 3
    steady_s: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)


USUAL = RestartPolicy()
