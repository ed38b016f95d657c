"""NVIDIA's evidence: the detached EAT bundle of its Remote Attestation Service (NRAS).

A bundle is ``[["JWT", OVERALL], {"GPU-0": DEVICE, ...}]``: the overall token holds the verdict and
a SHA-256 digest of every device's token (``submods``), each signed by ES384 with a key of NRAS's
published set, ``/.well-known/jwks.json``. NVIDIA's command line wraps it as ``detached_eat``, its
Python SDK as ``REMOTE_GPU_CLAIMS``; both are taken.

Sources of the claims checked here: NVIDIA's claims guide for GPUs, version 3.0
(docs.nvidia.com/attestation/advanced-documentation), and in the repository NVIDIA/nvtrust the
policy files under ``guest_tools/attestation_sdk/tests/policies/remote`` and the tokens of versions
2.0 and 3.0 under ``tests/pytests/data/gpu``. ``eat_nonce``, ``ueid``, ``dbgstat`` and ``submods``
are those of RFC 9711 or its drafts.

NRAS verifies a GPU's measurements (SPDM) and certificates; this module relies on NRAS's signed
verdict. No claim names the confidential mode itself.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from penstock.attest.tokens import (
    check_devices,
    check_nonce,
    check_reference,
    read_json,
    read_keys,
    signed_claims,
)
from penstock.attest.values import Challenge, EvidenceError, Rules
from penstock.core.attestation import Attestation
from penstock.core.errors import InputError, missing_extra, quote

ISSUER = "https://nras.attestation.nvidia.com"
ALGORITHM = "ES384"
NRAS_URL = "https://nras.attestation.nvidia.com/v4/attest/gpu"
_SUBJECT = "NVIDIA-PLATFORM-ATTESTATION"
_WARNING = "x-nvidia-attestation-warning"

_REPORT = "x-nvidia-gpu-attestation-report"
_RIMS = ("x-nvidia-gpu-driver-rim", "x-nvidia-gpu-vbios-rim")
_TRUE = ("secboot", "x-nvidia-gpu-arch-check", f"{_REPORT}-parsed", f"{_REPORT}-nonce-match",
         f"{_REPORT}-signature-verified", "x-nvidia-gpu-vbios-index-no-conflict",
         *(f"{rim}-{what}" for rim in _RIMS for what in (
             "fetched", "schema-validated", "signature-verified", "measurements-available")))
"""Claims of both versions that must be true."""

_TRUE_OF_VERSION: Mapping[str, tuple[str, ...]] = {
    "2.0": (f"{_REPORT}-cert-chain-validated", *(f"{rim}-cert-validated" for rim in _RIMS)),
    "3.0": (f"{_REPORT}-cert-chain-fwid-match", *(f"{rim}-version-match" for rim in _RIMS)),
}
_CHAINS_OF_VERSION: Mapping[str, tuple[str, ...]] = {
    "2.0": (), "3.0": (f"{_REPORT}-cert-chain", *(f"{rim}-cert-chain" for rim in _RIMS))}
_CHAIN = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}


class NvidiaVerifier:
    """Verifies a bundle offline by the keys that the rules name."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def verify(self, evidence: bytes, challenge: Challenge, now_s: float) -> Attestation:
        overall_token, device_tokens = _bundle(read_json(evidence))
        # read each time, since NVIDIA's keys change from day to day
        keys = read_keys(self._rules.keys)
        issuer = self._rules.issuer or ISSUER
        overall = signed_claims(overall_token, keys, ALGORITHM, issuer, now_s)
        check_nonce(overall, challenge.nonce)
        version = _check_overall(overall)
        _check_digests(overall, device_tokens)
        found = []
        for name, token in device_tokens.items():
            device = signed_claims(token, keys, ALGORITHM, issuer, now_s)
            check_nonce(device, challenge.nonce)
            self._check_device(name, device, version)
            found.append(device)
        check_devices([str(device.get("ueid")) for device in found], challenge.devices)
        tokens = [overall, *found]
        iat_s = float(min(token["iat"] for token in tokens))
        ends_s = min(iat_s + self._rules.max_age_s, *(float(token["exp"]) for token in tokens))
        if now_s >= ends_s:
            raise EvidenceError(f"is {now_s - iat_s:.0f} s old; at most "
                                f"{self._rules.max_age_s:g} s are allowed")
        return Attestation("nvidia", min(iat_s, now_s), ends_s, challenge.devices,
                           sha256(evidence).hexdigest())

    def _check_device(self, name: str, claims: Mapping[str, Any], version: str) -> None:
        for claim in (*_TRUE, *_TRUE_OF_VERSION[version]):
            _expect(name, claim, claims.get(claim), expected=True)
        # The two SDKs differ in the capitalization of this name.
        _expect(name, "measres", str(claims.get("measres")).lower(), "success")
        _expect(name, "dbgstat", claims.get("dbgstat"), "disabled")
        _expect(name, "x-nvidia-device-type", claims.get("x-nvidia-device-type", "gpu"), "gpu")
        for chain in _CHAINS_OF_VERSION[version]:
            found = claims.get(chain)
            for claim, expected in _CHAIN.items():
                _expect(name, f"{chain}.{claim}",
                        found.get(claim) if isinstance(found, dict) else None, expected)
        if claims.get("x-nvidia-mismatch-measurement-records"):
            raise EvidenceError(f"has measurements of {name} that do not match their reference")
        if claims.get(_WARNING) and _WARNING not in self._rules.reference:
            raise EvidenceError(f"comes with a warning about {name}: "
                                f"{' '.join(str(claims[_WARNING]).split())[:200]}")
        check_reference(claims, self._rules.reference)


def _bundle(document: Any) -> tuple[object, dict[str, object]]:
    """Return the overall token, and the devices' tokens by name."""
    if isinstance(document, dict) and "detached_eat" in document:
        document = document["detached_eat"]
    if isinstance(document, list) and len(document) == 2 and isinstance(document[1], dict):
        document = document[1].get("REMOTE_GPU_CLAIMS", document)
    right = (isinstance(document, list) and len(document) == 2 and isinstance(document[0], list)
             and len(document[0]) == 2 and document[0][0] == "JWT"
             and isinstance(document[1], dict) and document[1])
    if not right:
        raise EvidenceError('is not a detached EAT bundle; expected [["JWT", TOKEN], {"GPU-0": '
                            'TOKEN}]')
    return document[0][1], document[1]


def _check_overall(claims: Mapping[str, Any]) -> str:
    """Check the overall verdict and return the version of the claims."""
    _expect("the platform", "sub", claims.get("sub"), _SUBJECT)
    _expect("the platform", "x-nvidia-overall-att-result",
            claims.get("x-nvidia-overall-att-result"), expected=True)
    version = claims.get("x-nvidia-ver")
    if version not in _TRUE_OF_VERSION:
        raise EvidenceError(f"has claims of version {quote(version)}; expected one of "
                            f"{', '.join(_TRUE_OF_VERSION)}")
    return str(version)


def _check_digests(overall: Mapping[str, Any], tokens: Mapping[str, object]) -> None:
    """Check that the devices' tokens match the digests in the overall token."""
    submods = overall.get("submods")
    if not isinstance(submods, dict) or submods.keys() != tokens.keys():
        raise EvidenceError("has device tokens that the overall token does not name")
    for name, token in tokens.items():
        digest = sha256(str(token).encode(errors="replace")).hexdigest()
        if submods[name] not in (["DIGEST", ["SHA-256", digest]], ["DIGEST", ["SHA256", digest]]):
            raise EvidenceError(f"has a token of {name} whose digest is not the overall token's")


def _expect(name: str, claim: str, found: object, expected: object) -> None:
    # By type as well: neither 1 nor "true" counts as true.
    if type(found) is not type(expected) or found != expected:
        raise EvidenceError(f"says of {name} that {claim} is {quote(found)}; expected "
                            f"{quote(expected)}")


def collect(nonce: str) -> bytes:
    """Request a bundle for this machine's GPUs from NRAS by NVIDIA's Python SDK (v4 endpoint,
    claims 3.0).

    Needs a GPU in confidential mode and network access. Raises InputError without the library, and
    where NRAS rejects the GPUs.
    """
    try:
        from nv_attestation_sdk import attestation
    except ImportError as error:
        raise missing_extra("evidence of NVIDIA's GPUs", "attest-nvidia", error) from None
    client = attestation.Attestation()
    client.set_name("penstock")
    client.set_nonce(nonce)
    client.set_claims_version("3.0")
    client.add_verifier(attestation.Devices.GPU, attestation.Environment.REMOTE, NRAS_URL, "")
    if not client.attest(client.get_evidence()):
        raise InputError("NVIDIA's attestation service does not vouch for the GPUs of this machine")
    token = client.get_token()
    return (token if isinstance(token, str) else json.dumps(token)).encode()
