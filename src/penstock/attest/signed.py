"""Evidence for tests: claims signed by any holder of a key. It proves nothing about hardware.

The document is ``{"format": "penstock-test-evidence-1", "token": TOKEN}``; the token is signed by
Ed25519 (EdDSA) and claims ``iss``, ``iat``, ``exp``, ``eat_nonce`` and ``devices``: for each its
``ueid``, its ``mode`` (``confidential`` or another word), ``dbgstat`` and ``measurements``. Names
follow RFC 9711 where it defines them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from penstock.attest.tokens import (
    check_devices,
    check_nonce,
    check_reference,
    jwt_library,
    read_json,
    read_keys,
    signed_claims,
)
from penstock.attest.values import Challenge, EvidenceError, Rules
from penstock.core.attestation import Attestation
from penstock.core.errors import InputError, quote

FORMAT = "penstock-test-evidence-1"
ISSUER = "penstock-test"
ALGORITHM = "EdDSA"


@dataclass(frozen=True, slots=True)
class Device:
    """Claims of test evidence about one device; ``debug`` should be ``disabled``."""

    ueid: str
    mode: str = "confidential"
    debug: str = "disabled"
    measurements: Mapping[str, str] = field(default_factory=dict)


def new_key(kid: str) -> tuple[str, dict[str, Any]]:
    """Create a private key (PEM text), and a key set with its public part under the name
    ``kid``."""
    jwt_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from jwt.algorithms import OKPAlgorithm

    private = Ed25519PrivateKey.generate()
    public = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text, {"keys": [{**public, "kid": kid, "alg": ALGORITHM}]}


def sign(devices: Iterable[Device], nonce: str, now_s: float, valid_s: float, key: str,
         kid: str, issuer: str = ISSUER) -> bytes:
    """Sign evidence of these devices, measured at ``now_s`` (since 1970). ``key`` is PEM text.

    Raises InputError for a key that cannot sign.
    """
    claims = {"iss": issuer, "iat": int(now_s), "exp": int(now_s + valid_s), "eat_nonce": nonce,
              "devices": [{"ueid": one.ueid, "mode": one.mode, "dbgstat": one.debug,
                           "measurements": dict(one.measurements)} for one in devices]}
    jwt = jwt_library()
    try:
        token = jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InputError(f"the key cannot sign; expected a private Ed25519 key in PEM ({error})"
                         ) from None
    return json.dumps({"format": FORMAT, "token": token}).encode()


class SignedVerifier:
    """Verifies the evidence that ``sign`` makes."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def verify(self, evidence: bytes, challenge: Challenge, now_s: float) -> Attestation:
        document = read_json(evidence)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise EvidenceError(f"is not of the format {FORMAT}")
        claims = signed_claims(document.get("token"), read_keys(self._rules.keys), ALGORITHM,
                               self._rules.issuer or ISSUER, now_s)
        check_nonce(claims, challenge.nonce)
        devices = claims.get("devices")
        if not isinstance(devices, list) or not all(isinstance(one, dict) for one in devices):
            raise EvidenceError("names no devices")
        check_devices([str(one.get("ueid")) for one in devices], challenge.devices)
        for one in devices:
            self._check(one)
        iat_s = float(claims["iat"])
        if now_s >= iat_s + self._rules.max_age_s:
            raise EvidenceError(f"is {now_s - iat_s:.0f} s old; at most "
                                f"{self._rules.max_age_s:g} s are allowed")
        return Attestation("test", min(iat_s, now_s),
                           min(float(claims["exp"]), iat_s + self._rules.max_age_s),
                           challenge.devices, sha256(evidence).hexdigest())

    def _check(self, device: Mapping[str, Any]) -> None:
        name = quote(device.get("ueid"))
        if device.get("mode") != "confidential":
            raise EvidenceError(f"says that {name} is in mode {quote(device.get('mode'))}, not "
                                "confidential")
        if device.get("dbgstat") != "disabled":
            raise EvidenceError(f"says that debug of {name} is {quote(device.get('dbgstat'))}, not "
                                "disabled")
        check_reference(device.get("measurements") or {}, self._rules.reference)
