"""Requirements on evidence, and the rules for verifying it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from penstock.core.attestation import Attestation
from penstock.core.errors import InputError

VerifierName = Literal["test", "nvidia"]
LEAST_NONCE_BYTES, MOST_NONCE_BYTES = 16, 64
CLOCK_SKEW_S = 30.0
"""Allowed lead of the signer's clock over this clock."""


class EvidenceError(InputError):
    """Evidence that does not prove what it must. The message says why, as a predicate after "the
    evidence"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for verifying evidence.

    ``keys`` is the path of a JSON Web Key Set with the public keys of allowed signers. ``issuer``
    must have issued the evidence; None means the verifier's default issuer. Evidence is valid for
    ``max_age_s`` after its measurement and is requested again every ``renew_s``. ``reference`` has
    the allowed values of a claim (of every device).
    """

    verifier: VerifierName
    keys: str
    issuer: str | None = None
    max_age_s: float = 3600.0
    renew_s: float = 600.0
    reference: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Demand on evidence: the ``nonce`` (hexadecimal digits) of the request, and the identities of
    exactly the accelerators that the evidence must cover."""

    nonce: str
    devices: tuple[str, ...]


def check_nonce_text(nonce: str) -> None:
    """Raises InputError for an invalid nonce."""
    try:
        if not LEAST_NONCE_BYTES <= len(bytes.fromhex(nonce)) <= MOST_NONCE_BYTES:
            raise ValueError
    except ValueError:
        raise InputError(f"expected {LEAST_NONCE_BYTES} to {MOST_NONCE_BYTES} bytes in hexadecimal "
                         f"digits, found {nonce[:60]!r}") from None


class Verifier(Protocol):
    """Verifies evidence of one format."""

    def verify(self, evidence: bytes, challenge: Challenge, now_s: float) -> Attestation:
        """Return the attestation that the evidence supports; ``now_s`` is seconds since 1970.

        Raises EvidenceError for a claim that the evidence does not support, InputError for keys
        that cannot be read."""
