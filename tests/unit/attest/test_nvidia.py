"""Bundles of NVIDIA's attestation service, judged offline with keys that are made here."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from penstock.attest.nvidia import collect
from penstock.attest.values import Challenge, EvidenceError
from penstock.core.attestation import Attestation
from penstock.core.errors import InputError
from support.nvidia_evidence import NONCE, NOW_S, UEID, Nras

ASKED = Challenge(NONCE, (UEID,))


@pytest.fixture
def nras(tmp_path: Path) -> Nras:
    return Nras(tmp_path)


def judged(nras: Nras, document: Any, asked: Challenge = ASKED, now_s: float = NOW_S + 1,
           **rules: Any) -> Attestation:
    return nras.verifier(**rules).verify(json.dumps(document).encode(), asked, now_s)


@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_a_sound_bundle_is_believed_until_its_first_token_ends(nras: Nras, version: str) -> None:
    device = nras.device(version=version, exp=int(NOW_S) + 600)
    found = judged(nras, nras.bundle(device, version=version))
    assert (found.verifier, found.devices) == ("nvidia", (UEID,))
    assert (found.measured_at_s, found.expires_at_s) == (NOW_S, NOW_S + 600)
    assert judged(nras, nras.bundle(device, version=version), max_age_s=60.0
                  ).expires_at_s == NOW_S + 60


def test_the_wrappings_of_nvidia_s_tools_are_taken(nras: Nras) -> None:
    bundle = nras.bundle()
    envelope = jwt.encode({"sub": "x"}, "k" * 32, algorithm="HS256")
    for document in ({"result_code": 0, "detached_eat": bundle},
                     [["JWT", envelope], {"REMOTE_GPU_CLAIMS": bundle}]):
        assert judged(nras, document).devices == (UEID,)


def test_several_gpus_are_judged_each(nras: Nras) -> None:
    both = Challenge(NONCE, ("1", "2"))
    assert judged(nras, nras.bundle(nras.device("2"), nras.device("1")), both)
    bad = nras.device("2", dbgstat="enabled")
    with pytest.raises(EvidenceError, match="of GPU-1 that dbgstat is 'enabled'"):
        judged(nras, nras.bundle(nras.device("1"), bad), both)
    with pytest.raises(EvidenceError, match="lacks device '2'"):
        judged(nras, nras.bundle(nras.device("1")), both)
    with pytest.raises(EvidenceError, match="another device, '2'"):
        judged(nras, nras.bundle(nras.device("1"), nras.device("2")), Challenge(NONCE, ("1",)))


BOOLEANS = [name for name, value in Nras.device(None, version="2.0").items()  # type: ignore[arg-type]
            if value is True]
BOOLEANS_3 = [name for name, value in Nras.device(None, version="3.0").items()  # type: ignore[arg-type]
              if value is True]


@pytest.mark.parametrize(("version", "claim"), [
    *(("2.0", name) for name in BOOLEANS), *(("3.0", name) for name in BOOLEANS_3)])
@pytest.mark.parametrize("found", [False, None, "true", 1])
def test_every_claim_that_must_be_true_must_be(nras: Nras, version: str, claim: str,
                                               found: object) -> None:
    device = nras.device(version=version, **{claim: found})
    with pytest.raises(EvidenceError, match=claim):
        judged(nras, nras.bundle(device, version=version))


@pytest.mark.parametrize("claim", [*BOOLEANS_3, "measres", "dbgstat", "iat", "exp", "iss",
                                   "eat_nonce", "ueid",
                                   "x-nvidia-gpu-attestation-report-cert-chain",
                                   "x-nvidia-gpu-driver-rim-cert-chain",
                                   "x-nvidia-gpu-vbios-rim-cert-chain"])
def test_a_claim_that_is_absent_is_no_claim(nras: Nras, claim: str) -> None:
    device = nras.device()
    del device[claim]
    with pytest.raises(EvidenceError):
        judged(nras, nras.bundle(device))


@pytest.mark.parametrize(("claim", "found", "said"), [
    ("measres", "fail", "measres is 'fail'"),
    ("measres", "Failure", "measres"),
    ("dbgstat", "enabled", "dbgstat is 'enabled'; expected 'disabled'"),
    ("x-nvidia-device-type", "switch", "device-type"),
    ("x-nvidia-attestation-warning", "A CERTIFICATE IS ON HOLD", "warning about GPU-0: A CERT"),
    ("x-nvidia-mismatch-measurement-records", [{"index": 4}], "do not match their reference"),
    ("eat_nonce", "00" * 24, "another challenge"),
    ("iss", "https://nras.example", "was not issued by https://nras.attestation"),
    ("exp", int(NOW_S) - 11, "expired 12 s ago"), ("exp", "soon", "no time in exp|is no signed"),
    ("nbf", int(NOW_S) + 100, "begins to hold only in 99 s"),
    ("ueid", "7", "another device, '7'")])
def test_a_device_that_is_not_as_it_must_be_is_refused(nras: Nras, claim: str, found: object,
                                                       said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        judged(nras, nras.bundle(nras.device(**{claim: found})))


@pytest.mark.parametrize(("key", "value"), [("x-nvidia-cert-status", "expired"),
                                            ("x-nvidia-cert-ocsp-status", "revoked")])
@pytest.mark.parametrize("chain", ["x-nvidia-gpu-attestation-report-cert-chain",
                                   "x-nvidia-gpu-driver-rim-cert-chain",
                                   "x-nvidia-gpu-vbios-rim-cert-chain"])
def test_every_chain_of_certificates_must_be_good(nras: Nras, chain: str, key: str,
                                                  value: str) -> None:
    good = nras.device()[chain]
    with pytest.raises(EvidenceError, match=rf"{chain}\.{key} is '{value}'"):
        judged(nras, nras.bundle(nras.device(**{chain: {**good, key: value}})))


def test_both_spellings_of_a_good_measurement_are_known(nras: Nras) -> None:
    assert judged(nras, nras.bundle(nras.device(measres="Success")))


@pytest.mark.parametrize(("changed", "said"), [
    ({"x-nvidia-overall-att-result": False}, "overall-att-result is false"),
    ({"x-nvidia-overall-att-result": "true"}, "overall-att-result"),
    ({"x-nvidia-ver": "4.0"}, "version '4.0'; expected one of 2.0, 3.0"),
    ({"sub": "NVIDIA-GPU-ATTESTATION"}, "sub is"), ({"eat_nonce": NONCE[:-2]}, "another challenge"),
    ({"submods": {}}, "does not name"), ({"submods": None}, "does not name"),
    ({"submods": {"GPU-0": ["DIGEST", ["SHA-256", "00" * 32]]}}, "digest"),
    ({"submods": {"GPU-0": ["DIGEST", ["MD5", "00" * 16]]}}, "digest"),
    ({"exp": int(NOW_S)}, "expired 1 s ago")])
def test_an_overall_token_that_is_not_as_it_must_be_is_refused(
        nras: Nras, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        judged(nras, nras.bundle(**changed))


def test_a_device_s_token_of_another_bundle_is_refused(nras: Nras) -> None:
    mine, theirs = nras.bundle(), nras.bundle(nras.device(hwmodel="GB100"))
    with pytest.raises(EvidenceError, match="digest"):
        judged(nras, [mine[0], theirs[1]])


def test_keys_that_are_not_nvidia_s_sign_nothing(nras: Nras, tmp_path: Path) -> None:
    other = Nras(tmp_path, "another-key")
    with pytest.raises(EvidenceError, match="not trusted"):
        judged(nras, other.bundle())
    other.kid = nras.kid
    with pytest.raises(EvidenceError, match="bad signature"):
        judged(nras, other.bundle())
    for token in (other.token(nras.device()), "\ud800.no.text"):
        mixed = nras.bundle()
        mixed[1]["GPU-0"] = token
        with pytest.raises(EvidenceError, match="digest"):
            judged(nras, mixed)


def test_the_token_does_not_choose_how_it_is_checked(nras: Nras) -> None:
    bundle = nras.bundle()
    claims = jwt.decode(bundle[0][1], options={"verify_signature": False})
    for key, algorithm in (("x" * 32, "HS256"), (None, "none")):
        forged = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": nras.kid})
        with pytest.raises(EvidenceError, match="expected ES384"):
            judged(nras, [["JWT", forged], bundle[1]])


def test_values_may_be_pinned_and_a_warning_be_allowed(nras: Nras) -> None:
    bundle = nras.bundle()
    pinned = {"x-nvidia-gpu-driver-version": ("570.44",), "hwmodel": ("GH100 A01 GSP BROM",)}
    assert judged(nras, bundle, reference=pinned)
    with pytest.raises(EvidenceError, match=r"driver-version is .570\.44.; expected one of 571\.1"):
        judged(nras, bundle, reference={"x-nvidia-gpu-driver-version": ("571.1",)})
    held = nras.bundle(nras.device(**{"x-nvidia-attestation-warning": "ON HOLD"}))
    assert judged(nras, held, reference={"x-nvidia-attestation-warning": ("ON HOLD", "null")})
    assert judged(nras, bundle, reference={"x-nvidia-attestation-warning": ("ON HOLD", "null")})


def test_keys_may_come_as_certificates_alone(nras: Nras) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nras")])
    certificate = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(
        nras.key.public_key()).serial_number(1).not_valid_before(
            datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
                datetime(2027, 1, 1, tzinfo=UTC)).sign(nras.key, hashes.SHA384())
    nras.keys_path.write_text(json.dumps({"keys": [{"kid": nras.kid, "kty": "EC", "x5c": [
        b64encode(certificate.public_bytes(Encoding.DER)).decode()]}]}))
    assert judged(nras, nras.bundle())


@pytest.mark.parametrize("document", [
    None, 3, [], {}, [[], {}], [["JWT", "x"], {}], [["JWT"], {"GPU-0": "x"}],
    [["PEM", "x"], {"GPU-0": "x"}], [["JWT", 3], {"GPU-0": 4}], {"detached_eat": None},
    [["JWT", "x"], {"REMOTE_GPU_CLAIMS": 3}], [["JWT", "a.b.c"], {"GPU-0": "a.b.c"}]])
def test_what_is_no_bundle_is_refused(nras: Nras, document: object) -> None:
    with pytest.raises(EvidenceError):
        judged(nras, document)


def test_collecting_without_nvidia_s_library_names_the_extra() -> None:
    with pytest.raises(InputError, match=r"pip install '\.\[attest-nvidia\]'"):
        collect(NONCE)
