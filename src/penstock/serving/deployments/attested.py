"""Confidential deployments: placed on attested accelerators, and asked only while they are."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.attest.make import make_verifier
from penstock.attest.tokens import MOST_BYTES
from penstock.attest.values import Challenge, EvidenceError
from penstock.core.attestation import Attestation, Confidentiality
from penstock.core.errors import InputError
from penstock.policy.place.beside import Neighbour
from penstock.policy.place.confidential import attested
from penstock.policy.place.values import Device, Infeasible
from penstock.serving.deployments.choice import Decision
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.dependencies import Begun, Choose
from penstock.serving.deployments.deployments import (
    DeployIntent,
    Deployment,
    Instance,
    RefusedError,
)
from penstock.serving.deployments.engines import Engines, Reply

Standing = Callable[[float], Awaitable[Mapping[int, Confidentiality]]]


class Gate:
    """Stands before what chooses and before what answers. ``standing`` is what is known of each
    accelerator at a time of day, ``clock`` that time in seconds."""

    def __init__(self, standing: Standing, clock: Callable[[], float]) -> None:
        self._standing = standing
        self._clock = clock

    async def attested(self, name: str, devices: Sequence[Device]) -> list[Device]:
        """The devices that may hold a confidential deployment. Raises RefusedError where none
        may."""
        now_s = self._clock()
        found = attested(devices, await self._standing(now_s), now_s)
        if isinstance(found, Infeasible):
            raise RefusedError("not_attested", f"{name} is confidential: {found.reason}")
        return found

    def choosing(self, choose: Choose) -> Choose:
        """The same choice, among attested accelerators where the wish is confidential."""
        async def gated(one: Deployment, intent: DeployIntent, devices: list[Device],
                        neighbours: list[Neighbour]) -> Decision:
            if intent.confidential:
                devices = await self.attested(one.name, devices)
            return await choose(one, intent, devices, neighbours)

        return gated

    def before(self, engines: Engines, devices: Mapping[int, Device]) -> "GatedEngines":
        """The same engines, which answer confidential requests only while they are attested."""
        return GatedEngines(self, engines, devices)


class GatedEngines:
    """Engines behind a gate; ``devices`` are all accelerators by number."""

    def __init__(self, gate: Gate, engines: Engines, devices: Mapping[int, Device]) -> None:
        self._gate = gate
        self._engines = engines
        self._devices = devices

    async def start(self, one: Deployment, begun: Begun) -> None:
        await self._engines.start(one, begun)

    def lives(self, instance: Instance) -> bool:
        return self._engines.lives(instance)

    async def is_well(self, one: Deployment) -> bool:
        return await self._engines.is_well(one)

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        if one.intent is not None and one.intent.confidential:
            for device_id in one.devices:  # every one of them, so one by one
                await self._gate.attested(one.name, [self._devices[device_id]])
        return await self._engines.ask(one, request)

    async def stop(self, instance: Instance, patience_s: float) -> None:
        await self._engines.stop(instance, patience_s)


def standing(cluster: Cluster, now_s: float) -> Mapping[int, Confidentiality]:
    """The standing of every accelerator by its number, by the file of evidence that lies in the
    fleet file's place for it now; ``now_s`` is seconds since 1970. Nobody asks a URL here."""
    pool = cluster.fleet.accelerators[0]
    numbers = range(pool.count or 0)
    mode_on, source = pool.accelerator.confidential, pool.attestation
    rules = cluster.fleet.attestation
    if not mode_on or source is None or rules is None:
        return dict.fromkeys(numbers, Confidentiality(mode_on))
    if source.nonce is None:
        return dict.fromkeys(numbers, Confidentiality(
            mode_on, doubt="its evidence is at a URL; deployments go by a file"))
    attestations: tuple[Attestation, ...] = ()
    doubt = ""
    try:
        with Path(source.evidence).open("rb") as file:
            evidence = file.read(MOST_BYTES + 1)
        attestations = (make_verifier(rules).verify(
            evidence, Challenge(source.nonce, source.devices), now_s),)
    except EvidenceError as error:
        doubt = f"its evidence {error}"
    except (OSError, InputError) as error:
        doubt = f"its evidence cannot be had: {error}"
    return dict.fromkeys(numbers, Confidentiality(mode_on, attestations, doubt))
