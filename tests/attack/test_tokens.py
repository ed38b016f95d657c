"""A gateway with an identity provider, before emulated engines: who is let in, and what is told."""

import asyncio
import time

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("jwt", reason="the extra 'oidc' is not installed")
pytest.importorskip("cryptography", reason="the extra 'oidc' is not installed")

import orjson

from penstock.serving.tenants.store import open_store
from support.gateway_with_keys import home
from support.identity_provider import IdentityProvider


def with_provider(tmp_path, work, well=True, **section):
    async def run():
        async with IdentityProvider("RS256").listening() as provider:
            provider.is_well = well
            issuers = [{"url": provider.url, "audience": "penstock", **section}]
            async with home(tmp_path, issuers=issuers) as gateway:
                async def ask(token, path="/v1/completions"):
                    headers = {"Authorization": f"Bearer {token}"}
                    if path != "/v1/completions":
                        async with gateway.sessions["nobody"].get(path, headers=headers) as answer:
                            return answer.status, await answer.text()
                    answer, text = await gateway.ask("nobody", headers=headers, stream=False)
                    return answer.status, orjson.loads(text).get("error", {}).get("code")

                return await work(provider, ask)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_a_token_is_served_and_charged_to_its_tenant(tmp_path) -> None:
    async def work(provider, ask):
        return await ask(provider.token()), await ask(provider.token(tenant="bar")), \
            await ask(provider.token(), "/v1/penstock/spend")

    shop, bar, spend = with_provider(tmp_path, work)
    assert (shop, bar) == ((200, None), (200, None))
    assert '"shop"' in spend[1]
    assert '"bar"' not in spend[1]
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    spent = store.spent_since(0)
    store.close()
    assert spent["shop"] == spent["bar"] > 0


def test_other_tokens_are_not(tmp_path, capfd, caplog) -> None:
    canary = "canary-7c1e"

    async def work(provider, ask):
        stranger = IdentityProvider("RS256")
        stranger.url = provider.url
        return [await ask(token) for token in (
            provider.token(aud="others", sub=canary), stranger.token(sub=canary),
            provider.token(exp=time.time() - 1, sub=canary),
            provider.token(tenant="ghost", sub=canary), provider.token(tenant=None, sub=canary),
            provider.token(scope="penstock:metrics", sub=canary),
            provider.token(scope="penstock:spend", sub=canary))], [
                (await ask(provider.token(), path))[0] for path in (
                    "/metrics", "/v1/penstock/status", "/v1/penstock/deployments")]

    found, others = with_provider(tmp_path, work)
    assert found == [(401, "invalid_key"), (401, "invalid_key"), (401, "expired_key"),
                     (403, "unknown_tenant"), (403, "unknown_tenant"), (403, "missing_scope"),
                     (403, "missing_scope")]
    assert set(others) <= {403, 404}
    out, err = capfd.readouterr()
    assert canary not in out + err + caplog.text


def test_without_the_issuers_keys_nobody_is_let_in(tmp_path, capfd) -> None:
    async def work(provider, ask):
        return await ask(provider.token())

    assert with_provider(tmp_path, work, well=False) == (503, "issuer_unavailable")


def test_keys_of_penstock_are_taken_beside_tokens(tmp_path) -> None:
    async def run():
        async with IdentityProvider("ES256").listening() as provider, home(tmp_path, issuers=[
                {"url": provider.url, "audience": "penstock"}]) as gateway:
            return [(await gateway.ask(who, stream=False))[0].status
                    for who in ("shop", "revoked", "nobody")]

    assert asyncio.run(asyncio.wait_for(run(), 60)) == [200, 401, 401]
