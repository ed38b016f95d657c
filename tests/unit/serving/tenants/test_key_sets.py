"""Keys of an identity provider over HTTP, from good providers and bad ones."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("jwt", reason="the extra 'oidc' is not installed")
pytest.importorskip("cryptography", reason="the extra 'oidc' is not installed")

import aiohttp
from aiohttp import web

from penstock.fleet.values_gateway import Issuer
from penstock.serving.tenants.key_sets import KeySetError, fetch_key_set
from support.identity_provider import IdentityProvider, serving


def test_keys_are_found_by_discovery_or_at_a_stated_address() -> None:
    async def run():
        async with IdentityProvider("RS256", "EdDSA").listening() as provider, \
                aiohttp.ClientSession() as session:
            return [await fetch_key_set(session, one) for one in (
                Issuer(provider.url, "penstock"),
                Issuer("https://elsewhere.example", "penstock", f"{provider.url}/keys"))]

    found, stated = asyncio.run(run())
    assert set(found) == set(stated) == {"RS256 1", "EdDSA 1"}


def refused(response, path="/keys", **options):
    """Return the reason why the answers of a provider are refused."""
    async def answer(_):
        return response()

    async def run():
        async with serving({path: answer}) as url, aiohttp.ClientSession() as session:
            options.setdefault("jwks_url", f"{url}/keys")
            with pytest.raises(KeySetError) as error:
                await fetch_key_set(session, Issuer(url, "penstock", **options))
            return str(error.value).removeprefix(url)

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize(("response", "said"), [
    (lambda: web.Response(status=500), " answers with status 500"),
    (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
     " answers with status 302"),
    (lambda: web.Response(body=b"[" * 100_000), " is not JSON"),
    (lambda: web.json_response([]), " is not a JSON object"),
    (lambda: web.json_response({"keys": {}}), " is not a JSON Web Key Set"),
    (lambda: web.json_response({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
     " has no public key for signatures that is supported"),
    (lambda: web.Response(body=b" " * (2 << 20)), " answers with more than 1,048,576 bytes")])
def test_a_bad_key_set_is_told(response, said) -> None:
    assert refused(response) == f"/keys{said}"


def test_nobody_listens() -> None:
    async def run():
        async with aiohttp.ClientSession() as session:
            await fetch_key_set(session, Issuer("http://127.0.0.1:1", "penstock"))

    with pytest.raises(KeySetError, match="cannot be read"):
        asyncio.run(run())


@pytest.mark.parametrize(("found", "said"), [
    ({"issuer": "https://another.example"}, " is of another issuer"),
    ({}, " is of another issuer")])
def test_a_configuration_of_another_issuer_is_refused(found, said) -> None:
    place = "/.well-known/openid-configuration"
    assert refused(lambda: web.json_response(found), place, jwks_url=None) == place + said


@pytest.mark.parametrize("keys", ["http://keys.example/", None, 1, "file:///etc/keys"])
def test_keys_are_read_with_tls_only(keys) -> None:
    async def run():
        async def configuration(_):
            return web.json_response({"issuer": url, "jwks_uri": keys})

        async with serving({"/.well-known/openid-configuration": configuration}) as url, \
                aiohttp.ClientSession() as session:
            await fetch_key_set(session, Issuer(url, "penstock"))

    with pytest.raises(KeySetError, match="has no https:// address in jwks_uri"):
        asyncio.run(run())
