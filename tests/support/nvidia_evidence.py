"""Keys, test evidence and bundles as NVIDIA's service makes them, for tests."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.attest.nvidia import ISSUER, NvidiaVerifier
from penstock.attest.signed import Device, SignedVerifier, new_key, sign
from penstock.attest.values import Rules

NOW_S = 1_700_000_000.0
NONCE = "c0ffee" * 8
UEID = "490457405999046854973671575630853621547794591064"


class Signer:
    """A key for test evidence and the file with its public part."""

    def __init__(self, folder: Path, kid: str = "test-1") -> None:
        self.kid = kid
        self.key, keys = new_key(kid)
        self.keys_path = folder / f"{kid}-keys.json"
        self.keys_path.write_text(json.dumps(keys))

    def sign(self, *devices: Device | str, nonce: str = NONCE, now_s: float = NOW_S,
             valid_s: float = 3600.0) -> bytes:
        return sign([Device(one) if isinstance(one, str) else one for one in devices], nonce,
                    now_s, valid_s, self.key, self.kid)

    def verifier(self, **rules: Any) -> SignedVerifier:
        return SignedVerifier(Rules("test", str(self.keys_path), **rules))


_RIM = {f"x-nvidia-gpu-{rim}-rim-{what}": True for rim in ("driver", "vbios") for what in (
    "fetched", "schema-validated", "signature-verified", "measurements-available")}
_CHAIN = {"x-nvidia-cert-expiration-date": "9999-12-31T23:59:59", "x-nvidia-cert-status": "valid",
          "x-nvidia-cert-ocsp-status": "good", "x-nvidia-cert-revocation-reason": None}
_OF_VERSION: dict[str, dict[str, Any]] = {
    "2.0": {"x-nvidia-gpu-attestation-report-cert-chain-validated": True,
            "x-nvidia-gpu-driver-rim-cert-validated": True,
            "x-nvidia-gpu-vbios-rim-cert-validated": True},
    "3.0": {"x-nvidia-gpu-attestation-report-cert-chain-fwid-match": True,
            "x-nvidia-gpu-driver-rim-version-match": True,
            "x-nvidia-gpu-vbios-rim-version-match": True,
            "x-nvidia-gpu-attestation-report-cert-chain": _CHAIN,
            "x-nvidia-gpu-driver-rim-cert-chain": _CHAIN,
            "x-nvidia-gpu-vbios-rim-cert-chain": _CHAIN}}


def _times(nonce: str) -> dict[str, Any]:
    return {"iss": ISSUER, "iat": int(NOW_S), "nbf": int(NOW_S) - 120, "exp": int(NOW_S) + 3600,
            "eat_nonce": nonce, "jti": "a03100f6"}


class Nras:
    """NVIDIA's service as far as its signature goes: bundles with the claims of a sound GPU, and
    any of them changed."""

    def __init__(self, folder: Path, kid: str = "nv-eat-kid-test") -> None:
        self.kid = kid
        self.key = ec.generate_private_key(ec.SECP384R1())
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.keys_path = folder / f"{kid}-jwks.json"
        self.keys_path.write_text(json.dumps({"keys": [{**public, "kid": kid, "use": "sig"}]}))

    def token(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(claims, self.key, algorithm="ES384", headers={"kid": self.kid, **header})

    def device(self, ueid: str = UEID, version: str = "3.0", nonce: str = NONCE,
               **changed: Any) -> dict[str, Any]:
        return {**_times(nonce), "hwmodel": "GH100 A01 GSP BROM", "ueid": ueid, "oemid": "5703",
                "measres": "success", "secboot": True, "dbgstat": "disabled",
                "x-nvidia-gpu-driver-version": "570.44", "x-nvidia-gpu-arch-check": True,
                "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
                "x-nvidia-gpu-attestation-report-parsed": True,
                "x-nvidia-gpu-attestation-report-nonce-match": True,
                "x-nvidia-gpu-attestation-report-signature-verified": True,
                "x-nvidia-gpu-vbios-index-no-conflict": True, **_RIM, **_OF_VERSION[version],
                **changed}

    def bundle(self, *devices: dict[str, Any], version: str = "3.0", nonce: str = NONCE,
               **changed: Any) -> list[Any]:
        """A document of these devices' tokens; ``changed`` are claims of the overall token."""
        tokens = {f"GPU-{i}": self.token(one) for i, one in
                  enumerate(devices or (self.device(version=version, nonce=nonce),))}
        submods = {name: ["DIGEST", ["SHA-256", sha256(token.encode()).hexdigest()]]
                   for name, token in tokens.items()}
        overall = {**_times(nonce), "sub": "NVIDIA-PLATFORM-ATTESTATION", "x-nvidia-ver": version,
                   "x-nvidia-overall-att-result": True, "submods": submods, **changed}
        return [["JWT", self.token(overall)], tokens]

    def verifier(self, **rules: Any) -> NvidiaVerifier:
        return NvidiaVerifier(Rules("nvidia", str(self.keys_path), **rules))
