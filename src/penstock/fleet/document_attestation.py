"""The sections of the fleet file about evidence of confidential mode."""

from typing import Annotated

from pydantic import Field

from penstock.attest.values import VerifierName
from penstock.fleet.fields import (
    Count,
    FilePath,
    Name,
    NotNegative,
    Positive,
    Section,
    described,
)

Nonce = Annotated[str, Field(pattern=r"^([0-9a-f]{2}){16,64}$")]


class WindowSection(Section):
    """When a simulated attestation is valid."""

    from_s: NotNegative = described("From this time of the run on, seconds.", 0, default=0.0)
    until_s: Positive | None = described("Until then; left out, to the end of the run.", 600)


class EvidenceSection(Section):
    """Source of evidence that the replicas of a group run in confidential mode."""

    evidence: list[FilePath] | None = described(
        "For every replica, a URL that answers a challenge with evidence, or a file of evidence.",
        ["http://127.0.0.1:8001/attestation"])
    nonce: Nonce | None = described(
        "Nonce of evidence files, 16 to 64 bytes in hexadecimal digits; a URL gets a new nonce "
        "for each challenge.", "5b" * 32)
    devices: list[list[Name]] | None = described(
        "For every replica, the identities of its accelerators; evidence of any other is refused.",
        [["GPU-7f31"]])
    simulated: list[WindowSection] | None = described(
        "Times when replicas are attested in a simulation; `penstock serve` uses only "
        "evidence.", [{"from_s": 0, "until_s": 600}])


class PoolEvidenceSection(Section):
    """Source of evidence that all accelerators of a kind run in confidential mode."""

    evidence: FilePath | None = described(
        "A URL that answers a challenge with evidence of all of them, which `penstock serve` "
        "requests, or a file of it.", "evidence.json")
    nonce: Nonce | None = described(
        "Nonce of an evidence file, 16 to 64 bytes in hexadecimal digits.",
        "5b" * 32)
    devices: list[Name] | None = described("The identities of the accelerators.", ["GPU-7f31"])
    simulated: list[WindowSection] | None = described(
        "Times when shared devices are attested in a simulation.",
        [{"from_s": 0, "until_s": 600}])


class DisclosureSection(Section):
    """Figures about confidential requests in run files and metrics."""

    allow_model_counts: bool = described("Whether counts by model are shown.", True, default=False)
    least_count: Count = described(
        "Counts are rounded up to this number times a power of 2.", 100, default=16)


class AttestationSection(Section):
    """Rules for verifying evidence."""

    verifier: VerifierName = described(
        "Format of evidence: nvidia (tokens of NVIDIA's attestation service), or test (signed "
        "by `penstock attest sign`).", "nvidia", default=...)
    keys: FilePath = described(
        "JSON Web Key Set with the public keys of trusted signers.", "trusted-keys.json",
        default=...)
    issuer: Name | None = described("Required issuer of the evidence; left out, the verifier's "
                                    "default.", "https://nras.attestation.nvidia.com")
    max_age_s: Positive = described("Validity of evidence after its measurement, seconds.",
                                    3600, default=3600.0)
    renew_s: Positive = described("Interval of requests for new evidence, seconds.", 600,
                                  default=600.0)
    reference: dict[Name, list[str]] = described(
        "Allowed values of claims, for every device.",
        {"x-nvidia-gpu-driver-version": ["570.86.15"]}, default={})
