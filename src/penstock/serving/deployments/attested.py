"""Confidential deployments: placed on attested accelerators, and queried only while those are
attested."""

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

AttestationStatus = Callable[[float], Awaitable[Mapping[int, Confidentiality]]]


class Gate:
    """Checks attestation before a configuration is chosen and before a request is answered.

    ``attestation_status`` answers for each accelerator at a time of day; ``clock`` is that time in
    seconds.
    """

    def __init__(self, attestation_status: AttestationStatus, clock: Callable[[], float]) -> None:
        self._attestation_status = attestation_status
        self._clock = clock

    async def attested(self, name: str, devices: Sequence[Device]) -> list[Device]:
        """Return the devices that may hold a confidential deployment. Raises RefusedError where
        there are none."""
        now_s = self._clock()
        found = attested(devices, await self._attestation_status(now_s), now_s)
        if isinstance(found, Infeasible):
            raise RefusedError("not_attested", f"{name} is confidential: {found.reason}")
        return found

    def choosing(self, choose: Choose) -> Choose:
        """Return ``choose`` limited to attested accelerators where the intent is confidential."""
        async def gated(one: Deployment, intent: DeployIntent, devices: list[Device],
                        neighbours: list[Neighbour]) -> Decision:
            if intent.confidential:
                devices = await self.attested(one.name, devices)
            return await choose(one, intent, devices, neighbours)

        return gated

    def before(self, engines: Engines, devices: Mapping[int, Device]) -> "GatedEngines":
        """Return engines that answer confidential requests only while their accelerators are
        attested."""
        return GatedEngines(self, engines, devices)


class GatedEngines:
    """Engines behind a gate. ``devices`` has every accelerator by its number."""

    def __init__(self, gate: Gate, engines: Engines, devices: Mapping[int, Device]) -> None:
        self._gate = gate
        self._engines = engines
        self._devices = devices

    async def start(self, one: Deployment, begun: Begun) -> None:
        await self._engines.start(one, begun)

    def is_alive(self, instance: Instance) -> bool:
        return self._engines.is_alive(instance)

    async def is_healthy(self, one: Deployment) -> bool:
        return await self._engines.is_healthy(one)

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        if one.intent is not None and one.intent.confidential:
            for device_id in one.devices:  # each device must be attested
                await self._gate.attested(one.name, [self._devices[device_id]])
        return await self._engines.ask(one, request)

    async def stop(self, instance: Instance, grace_s: float) -> None:
        await self._engines.stop(instance, grace_s)


def attestation_status(cluster: Cluster, now_s: float) -> Mapping[int, Confidentiality]:
    """Return the attestation status of every accelerator by its number, from the evidence file that
    the fleet file names. ``now_s`` is seconds since 1970. Evidence at a URL is not requested
    here."""
    pool = cluster.fleet.accelerators[0]
    numbers = range(pool.count or 0)
    mode_on, source = pool.accelerator.confidential, pool.attestation
    rules = cluster.fleet.attestation
    if not mode_on or source is None or rules is None:
        return dict.fromkeys(numbers, Confidentiality(mode_on))
    if source.nonce is None:
        return dict.fromkeys(numbers, Confidentiality(
            mode_on, doubt="its evidence is at a URL; deployments need it in a file"))
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
