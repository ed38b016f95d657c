"""Test evidence: what is signed is believed, and nothing else."""

import json
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from penstock.attest.signed import Device
from penstock.attest.values import Challenge, EvidenceError
from penstock.core.errors import InputError
from support.nvidia_evidence import NONCE, NOW_S, Signer

ASKED = Challenge(NONCE, ("GPU-1",))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def test_sound_evidence_is_believed_until_the_first_of_its_ends(signer: Signer) -> None:
    evidence = signer.sign("GPU-1", valid_s=900)
    found = signer.verifier().verify(evidence, ASKED, NOW_S + 5)
    assert (found.verifier, found.devices) == ("test", ("GPU-1",))
    assert (found.measured_at_s, found.expires_at_s) == (NOW_S, NOW_S + 900)
    assert len(found.digest) == 64
    assert signer.verifier(max_age_s=60.0).verify(evidence, ASKED, NOW_S).expires_at_s == NOW_S + 60


@pytest.mark.parametrize(("device", "said"), [
    (Device("GPU-1", mode="off"), "in mode 'off', not confidential"),
    (Device("GPU-1", debug="enabled"), "debug of 'GPU-1' is 'enabled', not disabled"),
    (Device("GPU-2"), "is of another device, 'GPU-2'"),
    (Device("GPU-1", measurements={"vbios": "1"}), "vbios is '1'; expected one of 2, 3"),
    (Device("GPU-1"), "vbios is null")])
def test_a_device_that_is_not_as_it_must_be_is_refused(signer: Signer, device: Device,
                                                       said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        signer.verifier(reference={"vbios": ("2", "3")}).verify(signer.sign(device), ASKED, NOW_S)


def test_a_measurement_that_is_pinned_may_be_any_of_its_values(signer: Signer) -> None:
    evidence = signer.sign(Device("GPU-1", measurements={"vbios": "3"}))
    assert signer.verifier(reference={"vbios": ("2", "3")}).verify(evidence, ASKED, NOW_S)


@pytest.mark.parametrize(("devices", "asked", "said"), [
    (["GPU-1"], ("GPU-1", "GPU-2"), "lacks device 'GPU-2'"),
    (["GPU-1", "GPU-2"], ("GPU-1",), "another device, 'GPU-2'"),
    (["GPU-1", "GPU-1"], ("GPU-1",), "names a device twice"), ([], ("GPU-1",), "lacks device")])
def test_it_must_be_of_all_devices_of_the_replica_and_of_no_other(
        signer: Signer, devices: list[str], asked: tuple[str, ...], said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        signer.verifier().verify(signer.sign(*devices), Challenge(NONCE, asked), NOW_S)


@pytest.mark.parametrize(("now_s", "said"), [
    (NOW_S + 3600, "expired 0 s ago"), (NOW_S + 3612, "expired 12 s ago"),
    (NOW_S + 1000, "is 1000 s old; at most 1000 s"), (NOW_S - 31, "begins to hold only in 31 s")])
def test_old_evidence_is_refused_and_so_is_that_of_tomorrow(signer: Signer, now_s: float,
                                                            said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        signer.verifier(max_age_s=1000.0).verify(signer.sign("GPU-1"), ASKED, now_s)


def test_a_signer_whose_clock_is_a_little_ahead_is_believed_at_once(signer: Signer) -> None:
    found = signer.verifier().verify(signer.sign("GPU-1"), ASKED, NOW_S - 20)
    assert found.fresh(NOW_S - 20)


def test_the_answer_to_another_challenge_is_refused(signer: Signer) -> None:
    with pytest.raises(EvidenceError, match="another challenge"):
        signer.verifier().verify(signer.sign("GPU-1", nonce="00" * 24), ASKED, NOW_S)


def test_another_key_or_issuer_is_refused(signer: Signer, tmp_path: Path) -> None:
    other = Signer(tmp_path, "other")
    with pytest.raises(EvidenceError, match="key 'other', which is not trusted"):
        signer.verifier().verify(other.sign("GPU-1"), ASKED, NOW_S)
    other.kid = signer.kid
    with pytest.raises(EvidenceError, match="bad signature"):
        signer.verifier().verify(other.sign("GPU-1"), ASKED, NOW_S)
    with pytest.raises(EvidenceError, match="not issued by somebody"):
        signer.verifier(issuer="somebody").verify(signer.sign("GPU-1"), ASKED, NOW_S)


def test_every_changed_byte_of_a_token_is_noticed(signer: Signer) -> None:
    document = json.loads(signer.sign("GPU-1"))
    token = document["token"]
    for at in range(0, len(token) - 1, 17):  # the last character may have idle bits
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
        with pytest.raises(EvidenceError):
            signer.verifier().verify(json.dumps({**document, "token": changed}).encode(), ASKED,
                                     NOW_S)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_the_token_does_not_choose_how_it_is_checked(signer: Signer, algorithm: str) -> None:
    claims = jwt.decode(json.loads(signer.sign("GPU-1"))["token"],
                        options={"verify_signature": False})
    key = None if algorithm == "none" else "x" * 32
    forged = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": signer.kid})
    evidence = json.dumps({"format": "penstock-test-evidence-1", "token": forged}).encode()
    with pytest.raises(EvidenceError, match="expected EdDSA"):
        signer.verifier().verify(evidence, ASKED, NOW_S)


NESTED = b"[" * 100_000
"""More brackets than a parser follows; anybody may send them."""
HEADER_OF_BRACKETS = urlsafe_b64encode(NESTED).rstrip(b"=") + b".e30.AAAA"


@pytest.mark.parametrize("evidence", [
    NESTED, b'{"format": "penstock-test-evidence-1", "token": "' + HEADER_OF_BRACKETS + b'"}',
    b"", b"[]", b"{}", b"\xff", b'{"format": "penstock-test-evidence-1"}',
    b'{"format": "penstock-test-evidence-1", "token": 7}',
    b'{"format": "penstock-test-evidence-1", "token": "a.b.c"}', b" " * (1 << 21),
    b"[" * 200_000, b'{"format": "penstock-test-evidence-1", "token": "\\ud800.b.c"}'])
def test_what_is_no_evidence_is_refused(signer: Signer, evidence: bytes) -> None:
    with pytest.raises(EvidenceError):
        signer.verifier().verify(evidence, ASKED, NOW_S)


@pytest.mark.parametrize("exp", [pytest.param(10**400, id="huge"), float("inf"), float("nan"), "1",
                                 None, True])
def test_a_time_that_is_none_is_refused(signer: Signer, exp: object) -> None:
    claims = jwt.decode(json.loads(signer.sign("GPU-1"))["token"],
                        options={"verify_signature": False})
    token = jwt.encode(claims, signer.key, algorithm="EdDSA", headers={"kid": signer.kid})
    payload = b64encode(json.dumps({**claims, "exp": exp}).encode(), b"-_").rstrip(b"=")
    signed = b".".join((token.split(".")[0].encode(), payload))
    key = load_pem_private_key(signer.key.encode(), None)
    token = b".".join((signed, b64encode(key.sign(signed), b"-_").rstrip(b"="))).decode()
    evidence = json.dumps({"format": "penstock-test-evidence-1", "token": token}).encode()
    with pytest.raises(EvidenceError, match="exp"):
        signer.verifier().verify(evidence, ASKED, NOW_S)


@pytest.mark.parametrize("keys", ["", "[]", "[" * 200_000, "{}", '{"keys": [{}]}', '{"keys": 3}',
                                  '{"keys": [{"kid": "a", "kty": "OKP", "x": "?"}]}',
                                  '{"keys": [{"kid": "a", "x5c": ["AAAA"]}]}'])
def test_keys_that_cannot_be_read_are_the_operator_s_error_not_the_evidence_s(
        signer: Signer, keys: str) -> None:
    evidence = signer.sign("GPU-1")
    signer.keys_path.write_text(keys)
    with pytest.raises(InputError) as caught:
        signer.verifier().verify(evidence, ASKED, NOW_S)
    assert not isinstance(caught.value, EvidenceError)
    signer.keys_path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        signer.verifier().verify(evidence, ASKED, NOW_S)
