"""How replicas show that they run in confidential mode: values of the fleet file's sections."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from penstock.core.attestation import Attestation, Confidentiality


@dataclass(frozen=True, slots=True)
class Window:
    """From when until when (None: to the end of the run) a simulated attestation is valid."""

    from_s: float = 0.0
    until_s: float | None = None


def in_simulation(windows: Iterable[Window], *, mode_on: bool) -> Confidentiality:
    """Return the state of simulated replicas or devices that are attested in these windows."""
    return Confidentiality(mode_on, tuple(
        Attestation("simulated", window.from_s, inf if window.until_s is None else window.until_s)
        for window in windows))


@dataclass(frozen=True, slots=True)
class EvidenceSource:
    """Source of the evidence of a group's replicas, and the identities that it must cover.

    ``evidence`` has a URL or the absolute path of a file for every replica; ``nonce`` is the one
    that files hold, in hexadecimal digits (a URL is given a new one each time). ``devices`` are the
    identities of every replica's accelerators. ``simulated`` is when a simulation takes its
    replicas to be attested; no engine that answers over HTTP is trusted for it.
    """

    evidence: tuple[str, ...] = ()
    nonce: str | None = None
    devices: tuple[tuple[str, ...], ...] = ()
    simulated: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolEvidence:
    """The evidence of all accelerators of a pool together: a URL, or an absolute path and the nonce
    that the file was made with; and the identities of the accelerators."""

    evidence: str
    nonce: str | None
    devices: tuple[str, ...]


NO_EVIDENCE = EvidenceSource()
ASSUMED = EvidenceSource(simulated=(Window(),))
"""State of replicas that are only proposed."""

