"""Values of the fleet file's sections about evidence of confidential mode."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from penstock.core.attestation import Attestation, Confidentiality


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a simulated attestation is valid (``until_s`` None: to the end of the
    run)."""

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

    ``evidence`` has a URL or the absolute path of a file for every replica; ``nonce`` is the nonce
    of evidence in files, in hexadecimal digits (a URL gets a new one each time). ``devices`` are
    the identities of every replica's accelerators. ``simulated`` are the times at which a
    simulation assumes its replicas to be attested. Real engines are never trusted because of it.
    """

    evidence: tuple[str, ...] = ()
    nonce: str | None = None
    devices: tuple[tuple[str, ...], ...] = ()
    simulated: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolEvidence:
    """Source of the evidence of all accelerators of a pool: a URL, or an absolute path and the
    nonce of the file; and the identities of the accelerators."""

    evidence: str
    nonce: str | None
    devices: tuple[str, ...]


NO_EVIDENCE = EvidenceSource()
ASSUMED = EvidenceSource(simulated=(Window(),))
"""State of replicas that are only proposed."""

