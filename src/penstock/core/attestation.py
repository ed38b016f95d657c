"""The rule for confidential requests, shared by simulation, plans, placement and gateway."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

NOT_CONFIDENTIAL = "does not run in confidential mode"
NO_ATTESTATION = "has no attestation"
EXPIRED = "has an attestation that has expired"
NOT_YET = "has an attestation that is not valid yet"


@dataclass(frozen=True, slots=True)
class Attestation:
    """Statement of a verifier about accelerators, and its period of validity.

    ``devices`` are the identities of all accelerators that the evidence is of. It is valid from
    ``measured_at_s`` until just before ``expires_at_s``, both in seconds of the clock of whoever
    asks: of the run in a simulation, since 1970 in a gateway. ``digest`` is the SHA-256 of the
    evidence, in hexadecimal digits.
    """

    verifier: str
    measured_at_s: float
    expires_at_s: float
    devices: tuple[str, ...] = ()
    digest: str = ""

    def fresh(self, now_s: float) -> bool:
        """Whether it may be relied on at that time."""
        return self.measured_at_s <= now_s < self.expires_at_s


@dataclass(frozen=True, slots=True)
class Confidentiality:
    """State of one replica with regard to confidential requests.

    ``mode_on`` says that its accelerators are meant to run in confidential mode, ``attestations``
    that they were found to do so; ``doubt`` is why its latest evidence was not accepted, empty
    where it was. Nothing known is as bad as bad news: nobody may go there.
    """

    mode_on: bool = False
    attestations: tuple[Attestation, ...] = ()
    doubt: str = ""


NOT_KNOWN = Confidentiality()


class AttestationViolation(NamedTuple):
    """Why a replica may not take confidential requests: one of this module's reasons, and what
    else there is to say of this replica at this time."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def attestation_violation(replica: Confidentiality, now_s: float) -> AttestationViolation | None:
    """Return why a replica may not take confidential requests at a time, or None."""
    if not replica.mode_on:
        return AttestationViolation(NOT_CONFIDENTIAL)
    if any(one.fresh(now_s) for one in replica.attestations):
        return None
    ended = [one.expires_at_s for one in replica.attestations if one.expires_at_s <= now_s]
    if ended:
        ago = f"{now_s - max(ended):.0f} s ago"
        return AttestationViolation(EXPIRED, f"{ago}; {replica.doubt}" if replica.doubt else ago)
    if replica.attestations:
        begins_s = min(one.measured_at_s for one in replica.attestations)
        return AttestationViolation(NOT_YET, f"in {begins_s - now_s:.0f} s")
    return AttestationViolation(NO_ATTESTATION, replica.doubt)


def refusal(violations: Iterable[AttestationViolation]) -> str:
    """Why a confidential request is refused where every replica has a barrier: each reason once, so
    that equal refusals read alike."""
    reasons = " or ".join(sorted({one.reason for one in violations}))
    return f"no replica may take a confidential request: every one that could serve it {reasons}"
