"""Requirements on evidence, and the rules by which evidence is judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from penstock.core.attestation import Attestation
from penstock.core.errors import InputError

VerifierName = Literal["test", "nvidia"]
LEAST_NONCE_BYTES, MOST_NONCE_BYTES = 16, 64
CLOCK_SKEW_S = 30.0
"""So much may the signer's clock be ahead of ours."""


class EvidenceError(InputError):
    """Evidence that does not show what it must; the message says why, in words that follow on
    "the evidence"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How evidence is judged.

    ``keys`` is the path of a JSON Web Key Set with the public keys of who may sign; ``issuer`` must
    have issued the evidence, None stands for the verifier's usual one. Evidence is believed for
    ``max_age_s`` after it was measured and asked for again every ``renew_s``. ``reference`` gives
    for a claim (of every device) the values that are allowed.
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
    """Raises InputError for what is no challenge."""
    try:
        if not LEAST_NONCE_BYTES <= len(bytes.fromhex(nonce)) <= MOST_NONCE_BYTES:
            raise ValueError
    except ValueError:
        raise InputError(f"expected {LEAST_NONCE_BYTES} to {MOST_NONCE_BYTES} bytes in hexadecimal "
                         f"digits, found {nonce[:60]!r}") from None


class Verifier(Protocol):
    """Judges evidence of one format."""

    def verify(self, evidence: bytes, challenge: Challenge, now_s: float) -> Attestation:
        """Return the attestation that the evidence supports; ``now_s`` is seconds since 1970.

        Raises EvidenceError for a claim that the evidence does not support, InputError for keys
        that cannot be read."""
