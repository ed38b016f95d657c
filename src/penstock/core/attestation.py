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

    ``devices`` are the identities of all accelerators that the evidence covers. It is valid from
    ``measured_at_s`` until just before ``expires_at_s``, both in seconds of the user's clock: of
    the run in a simulation, since 1970 in a gateway. ``digest`` is the SHA-256 of the evidence, in
    hexadecimal digits.
    """

    verifier: str
    measured_at_s: float
    expires_at_s: float
    devices: tuple[str, ...] = ()
    digest: str = ""

    def fresh(self, now_s: float) -> bool:
        """Whether the attestation is valid at that time."""
        return self.measured_at_s <= now_s < self.expires_at_s


@dataclass(frozen=True, slots=True)
class Confidentiality:
    """State of one replica for confidential requests.

    ``mode_on`` says that its accelerators are meant to run in confidential mode, ``attestations``
    prove that they do. ``doubt`` says why the latest evidence was rejected, empty where it was
    accepted. Without evidence, as with rejected evidence, no confidential request may go there.
    """

    mode_on: bool = False
    attestations: tuple[Attestation, ...] = ()
    doubt: str = ""


NOT_KNOWN = Confidentiality()


class AttestationViolation(NamedTuple):
    """Why a replica may not take confidential requests: one of this module's reasons, and further
    details of this replica at this time."""

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
    """Return the message for a confidential request that no replica may take. It has each reason
    once, so that equal refusals have equal texts."""
    reasons = " or ".join(sorted({one.reason for one in violations}))
    return f"no replica may take a confidential request: every one that could serve it {reasons}"
