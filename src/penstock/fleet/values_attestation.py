"""How replicas show that they run in confidential mode: values of the fleet file's sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from penstock.core.attestation import Attestation, Confidentiality

VerifierName = Literal["test", "nvidia"]


@dataclass(frozen=True, slots=True)
class Window:
    """From when until when (None: to the end of the run) a simulated attestation is valid."""

    from_s: float = 0.0
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class EvidenceSource:
    """Where the evidence of a group's replicas is found, and what it must be of.

    ``evidence`` has a URL or the absolute path of a file for every replica; ``nonce`` is the one
    that files hold, in hexadecimal digits (a URL is given a new one each time). ``devices`` are the
    identities of every replica's accelerators. ``simulated`` is when a simulation takes its
    replicas to be attested; no engine that answers over HTTP is trusted for it.
    """

    evidence: tuple[str, ...] = ()
    nonce: str | None = None
    devices: tuple[tuple[str, ...], ...] = ()
    simulated: tuple[Window, ...] = ()

    def in_simulation(self, *, mode_on: bool) -> Confidentiality:
        """What a simulation knows of the group's replicas."""
        return Confidentiality(mode_on, tuple(
            Attestation("simulated", window.from_s,
                        inf if window.until_s is None else window.until_s)
            for window in self.simulated))


NO_EVIDENCE = EvidenceSource()
ASSUMED = EvidenceSource(simulated=(Window(),))
"""Of replicas that are only proposed."""


@dataclass(frozen=True, slots=True)
class AttestationRules:
    """How evidence is judged.

    ``keys`` is the absolute path of a JSON Web Key Set with the public keys of who may sign.
    Evidence is believed for ``max_age_s`` after it was measured and asked for again every
    ``renew_s``. ``reference`` gives for a claim (of every device) the values that are allowed.
    """

    verifier: VerifierName
    keys: str
    issuer: str | None = None
    max_age_s: float = 3600.0
    renew_s: float = 600.0
    reference: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
