"""Tokens of an identity provider: who is let in, as whom, and who is not."""

import asyncio
import base64
import hmac
import json
import time

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("jwt", reason="the extra 'oidc' is not installed")
pytest.importorskip("cryptography", reason="the extra 'oidc' is not installed")

import jwt
from cryptography.hazmat.primitives import serialization

from penstock.fleet.values_gateway import Issuer
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.issuers import AGAIN_S, KEPT_S, REFRESH_S, Issuers
from penstock.serving.tenants.key_sets import KeySetError, read_key_set
from support.identity_provider import IdentityProvider


class Door:
    """Issuers with clocks of their own, before one provider."""

    def __init__(self, *algorithms, **options):
        self.provider = IdentityProvider(*algorithms)
        self.now_s, self.notes, self.num_reads = 100.0, [], 0
        self.issuers = Issuers(lambda: self.now_s, time.time, self.notes.append)
        self.issuers.adopt([Issuer(self.provider.url, "penstock", **options)])
        self.look()

    def look(self):
        asyncio.run(self.issuers.look(self.fetch))

    async def fetch(self, issuer):
        self.num_reads += 1
        if not self.provider.is_well:
            raise KeySetError("it is down")
        return read_key_set(self.provider.entries())

    def find(self, token=None, **changes):
        return self.issuers.find(self.provider.token(**changes) if token is None else token)

    def refused(self, **changes):
        with pytest.raises(ServiceError) as error:
            self.find(**changes)
        return error.value.status, error.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_that_the_issuer_signed_is_a_key_of_its_tenant(algorithm) -> None:
    door = Door(algorithm)
    key = door.find()
    assert (key.tenant, key.scopes, key.admin) == ("shop", ("ask", "spend"), False)
    assert key.key_id.startswith("oidc-")
    assert door.find(aud=["others", "penstock"]).tenant == "shop"


def test_one_subject_has_one_id_which_does_not_tell_the_subject() -> None:
    door = Door()
    ids = [door.find(sub=sub).key_id for sub in ("somebody", "somebody", "another")]
    assert ids[0] == ids[1] != ids[2]
    assert "somebody" not in ids[0]


@pytest.mark.parametrize("wrong", [
    {"iss": "http://127.0.0.1:2"}, {"iss": ["http://127.0.0.1:1"]}, {"iss": None},
    {"aud": "others"}, {"aud": None}, {"aud": []}, {"aud": {"penstock": 1}},
    {"exp": None}, {"exp": "soon"}, {"exp": float("inf")}, {"exp": True}, {"iat": None},
    {"nbf": time.time() + 3600}, {"iat": time.time() + 3600}])
def test_a_token_with_wrong_claims_is_none(wrong) -> None:
    try:
        assert Door().find(**wrong) is None
    except TypeError:  # the library does not even sign it
        assert "iss" in wrong or "exp" in wrong or "aud" in wrong


def test_a_token_that_has_expired_is_told_from_one_that_is_wrong() -> None:
    assert Door().find(exp=time.time() - 1).is_expired(time.time())


def unsigned(header, claims, signature=b""):
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (
        json.dumps(header).encode(), json.dumps(claims).encode(), signature))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_forged_tokens_are_none(algorithm) -> None:
    door = Door(algorithm)
    claims, kid = door.provider.claims(), door.provider.kid
    public = door.provider.keys[kid].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for name in ("none", "None", "", None, ["RS256"], 1):
        assert door.find(unsigned({"alg": name, "kid": kid, "typ": "JWT"}, claims)) is None
    # a public key taken for a shared secret
    head = unsigned({"alg": "HS256", "kid": kid}, claims).rpartition(".")[0]
    mac = hmac.digest(public, head.encode(), "sha256")
    assert door.find(unsigned({"alg": "HS256", "kid": kid}, claims, mac)) is None
    # a key that the token brings itself
    other = IdentityProvider(algorithm)
    for extra in ({"jwk": other.entries()[0]}, {"jku": "http://127.0.0.1:3/keys"},
                  {"x5u": "http://127.0.0.1:3/keys"}, {"crit": ["exp"]}):
        forged = jwt.encode(claims, other.keys[other.kid], algorithm,
                            headers={"kid": kid, **extra})
        assert door.find(forged) is None
    # one byte of a true token
    head, _, signature = door.provider.token().rpartition(".")
    assert door.find(f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}") is None


@pytest.mark.parametrize("text", [
    "", ".", "..", "a.b.c", "psk-1-2", "." * 8000, "é.é.é", "\udc80.b.c",
    unsigned({"alg": "ES256", "kid": {"a": 1}}, {}), unsigned({"alg": "ES256"}, []),
    unsigned([], {}), unsigned({"alg": "ES256", "kid": "x"}, {"iss": {"a": 1}})])
def test_other_texts_are_none(text) -> None:
    assert Door().find(text) is None


def test_deep_and_long_tokens_are_none() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 2000).decode()
    assert Door().find(f"{deep}.{deep}.x") is None
    assert Door().find(sub="x" * 8000) is None


# -- tenants and scopes ---------------------------------------------------------------------------

def test_values_of_a_claim_stand_for_tenants() -> None:
    door = Door(tenant_claim="groups", tenants=(("/teams/a", "shop"), ("/teams/b", "bar"),
                                                ("/teams/c", "bar")))
    assert door.find(groups=["/all", "/teams/a"]).tenant == "shop"
    assert door.find(groups=["/teams/b", "/teams/c"]).tenant == "bar"
    assert door.refused(groups=["/teams/a", "/teams/b"]) == (403, "unknown_tenant")
    for nobody in ("shop", ["/all"], None, 3, {"a": 1}):
        assert door.refused(groups=nobody) == (403, "unknown_tenant")


def test_a_token_has_at_most_the_scopes_that_its_issuer_may_grant() -> None:
    door = Door(scopes=("ask", "spend", "metrics"))
    assert door.find(scope="openid profile").scopes == ("ask", "spend")
    assert door.find(scope="openid penstock:ask").scopes == ("ask",)
    assert door.find(scope=["penstock:metrics", "penstock:admin"]).scopes == ("metrics",)
    assert door.refused(scope="penstock:admin") == (403, "missing_scope")
    assert not door.find(scope="penstock:ask penstock:admin").admin


def test_a_token_without_a_tenant_administers_and_sees_no_spending() -> None:
    door = Door(scopes=("ask", "spend", "metrics", "admin"))
    assert door.refused(tenant=None) == (403, "unknown_tenant")
    key = door.find(tenant=None, scope="penstock:metrics penstock:spend penstock:ask")
    assert (key.tenant, key.scopes) == ("", ("metrics",))
    assert door.find(tenant=None, scope="penstock:admin").admin


# -- keys -----------------------------------------------------------------------------------------

def test_a_new_key_is_read_at_its_first_token_and_a_withdrawn_one_is_not_trusted() -> None:
    door = Door()
    old = door.provider.token()
    assert door.find(old) is not None
    door.provider.add("2")
    assert door.find() is None, "the keys were read just now"
    door.now_s += AGAIN_S + 1
    assert door.refused() == (503, "issuer_unavailable")
    del door.provider.keys["ES256 1"]
    door.look()
    assert door.find().tenant == "shop"
    assert door.find(old) is None


def test_unknown_keys_do_not_make_the_gateway_ask_again_and_again() -> None:
    door = Door()
    stranger = IdentityProvider()
    stranger.url = door.provider.url
    stranger.add("strange")
    for _ in range(50):
        assert door.find(stranger.token()) is None
        door.look()
    assert door.num_reads == 1


def test_keys_outlast_an_issuer_that_is_down_for_a_day() -> None:
    door = Door()
    remembered = door.provider.token(exp=time.time() + 30 * 86_400)
    assert door.find(remembered) is not None
    door.provider.is_well = False
    for _ in range(3):
        door.now_s += REFRESH_S + 1
        door.look()
    assert door.find() is not None
    assert len(door.notes) == 1
    assert "it is down" in door.notes[0]
    door.now_s += KEPT_S
    door.look()
    assert door.refused(sub="new") == door.refused(token=remembered) == (503, "issuer_unavailable")
    door.provider.is_well = True
    door.now_s += AGAIN_S + 1
    door.look()
    assert door.find() is not None
    assert door.notes[1].endswith("are read again")


def test_no_answer_of_an_issuer_ends_the_reading_of_its_keys(monkeypatch) -> None:
    """An error that nobody foresaw is told once, and the keys are read again as after any other."""
    door = Door()
    entries = door.provider.entries
    monkeypatch.setattr(door.provider, "entries", lambda: 1 / 0)
    for _ in range(2):
        door.now_s += REFRESH_S + 1
        door.look()
    assert [line for note in door.notes for line in note.splitlines() if "Zero" in line] == \
        ["ZeroDivisionError"]
    assert door.find() is not None
    monkeypatch.setattr(door.provider, "entries", entries)
    door.now_s += AGAIN_S + 1
    door.look()
    assert "read again" in door.notes[-1]


def test_a_remembered_token_is_forgotten_with_its_issuer() -> None:
    door = Door()
    token = door.provider.token()
    assert door.find(token) is door.find(token)
    door.issuers.adopt([])
    assert door.find(token) is None


def test_public_keys_that_are_not_for_signatures_or_too_weak_are_left_out() -> None:
    entry = IdentityProvider("RS256").entries()[0]
    weak = {**entry, "n": base64.urlsafe_b64encode(b"\xc1" * 64).rstrip(b"=").decode()}
    assert set(read_key_set([entry])) == {"RS256 1"}
    for other in (weak, {**entry, "use": "enc"}, {**entry, "kid": 1}, {**entry, "n": "!"},
                  {**entry, "alg": "HS256"}, {**entry, "alg": ["RS256"]}, {**entry, "kty": "EC"},
                  {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, {"kid": "x"}, [], None, "key"):
        assert read_key_set([other]) == {}
    without = {name: value for name, value in entry.items() if name != "kid"}
    assert set(read_key_set([without])) == {None}
    assert set(read_key_set([without, entry])) == {"RS256 1"}
