"""How replicas show that they run in confidential mode, in the fleet file."""

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
    """How the replicas of a group show that they run in confidential mode."""

    evidence: list[FilePath] | None = described(
        "For every replica, a URL that answers a challenge with evidence, or a file of evidence.",
        ["http://127.0.0.1:8001/attestation"])
    nonce: Nonce | None = described(
        "What the evidence in files was asked with, 16 to 64 bytes in hexadecimal digits; a URL is "
        "sent a new one each time.", "5b" * 32)
    devices: list[list[Name]] | None = described(
        "For every replica, the identities of its accelerators; evidence of any other is refused.",
        [["GPU-7f31"]])
    simulated: list[WindowSection] | None = described(
        "When a simulation takes the replicas to be attested; `penstock serve` goes by evidence "
        "alone.", [{"from_s": 0, "until_s": 600}])


class PoolEvidenceSection(Section):
    """How all accelerators of a kind show that they run in confidential mode."""

    evidence: FilePath | None = described(
        "A URL that answers a challenge with evidence of all of them, which `penstock serve` asks, "
        "or a file of it.", "evidence.json")
    nonce: Nonce | None = described(
        "What the evidence in a file was asked with, 16 to 64 bytes in hexadecimal digits.",
        "5b" * 32)
    devices: list[Name] | None = described("The identities of the accelerators.", ["GPU-7f31"])
    simulated: list[WindowSection] | None = described(
        "When a simulation takes devices that models take turns on to be attested.",
        [{"from_s": 0, "until_s": 600}])


class DisclosureSection(Section):
    """Figures about confidential requests in run files and metrics."""

    allow_model_counts: bool = described("Whether counts are told by model.", True, default=False)
    least_count: Count = described(
        "Counts are rounded up to this number times a power of 2.", 100, default=16)


class AttestationSection(Section):
    """How evidence is judged."""

    verifier: VerifierName = described(
        "What evidence looks like: nvidia (tokens of NVIDIA's attestation service), or test "
        "(signed by `penstock attest sign`).", "nvidia", default=...)
    keys: FilePath = described(
        "JSON Web Key Set with the public keys of who may sign evidence.", "trusted-keys.json",
        default=...)
    issuer: Name | None = described("Who must have issued the evidence; left out, the verifier's "
                                    "usual one.", "https://nras.attestation.nvidia.com")
    max_age_s: Positive = described("How long evidence is believed after it was measured, seconds.",
                                    3600, default=3600.0)
    renew_s: Positive = described("How often new evidence is asked for, seconds.", 600,
                                  default=600.0)
    reference: dict[Name, list[str]] = described(
        "Values that are allowed of a claim, of every device.",
        {"x-nvidia-gpu-driver-version": ["570.86.15"]}, default={})
