"""Dependencies of the controller of deployments, and its rules of care."""

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
    """Nothing can be read of accelerators."""
    return {}


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Dependencies of a controller.

    ``engines`` by kind; ``choose`` decides for devices and who is on them (raises RefusedError,
    InputError);
    ``profile`` measures a model by options and answers the profile's path (raises EngineError,
    InputError), after it told what process does so; ``clock`` is the time of day, seconds;
    ``read_used`` is how many bytes of which accelerators are in use now, by whomever, as far as
    that can be read of those that a deployment would really be on.
    """

    engines: Mapping[str, Engines]
    choose: Choose
    profile: Profile
    clock: Callable[[], float]
    read_used: ReadUsed = unread
    on_bug: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Care:
    """How engines are looked after: ``patience_s`` to end before they are killed, ``misses`` looks
    in a row without an answer until one counts as unhealthy, and when it is started again. Failures
    are forgotten once it ran for ``steady_s``."""

    patience_s: float = 10.0
    misses: int = 3
    steady_s: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)


USUAL = Care()
