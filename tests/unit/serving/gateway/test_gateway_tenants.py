"""A gateway that asks for keys, before emulated engines, as its clients see it."""

import asyncio
import secrets
import sqlite3

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import Access, running
from penstock.serving.planning.queue import EXAMPLE
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support import misbehaving_engines as odd
from support.gateway_with_keys import STREAM, home, through
from support.small_fleet import FLEET


def charges(tmp_path):
    with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
        return {row[0]: row[1:] for row in connection.execute(
            "select decision_id, tenant, prompt_tokens, output_tokens, charged_nanos "
            "from penstock_charges")}


def test_who_asks_needs_a_key(tmp_path) -> None:
    async def work(found):
        seen = []
        for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
            answer, body = await found.ask("nobody", path)
            seen.append((answer.status, orjson.loads(body)["error"]["code"],
                         answer.headers["WWW-Authenticate"]))
        for path in ("/v1/models", "/v1/penstock/spend", "/v1/penstock/status", "/metrics",
                     "/v1/penstock/decisions/x"):
            status, body = await found.get("nobody", path)
            seen.append((status, body["error"]["code"], "Bearer"))
        assert (await found.get("nobody", "/health"))[0] == 200
        return set(seen)

    assert through(tmp_path, work) == {(401, "missing_key", "Bearer")}


def test_the_official_client_is_told_in_its_own_terms(tmp_path) -> None:
    openai = pytest.importorskip("openai", reason="the official client is not installed")

    async def work(found):
        async with openai.AsyncOpenAI(base_url=f"{found.url}/v1", api_key="psk-0-wrong",
                                      max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError, match="not valid"):
                await client.completions.create(model="llama-3-8b", prompt="x")
        key = found.sessions["bar"].headers["Authorization"].removeprefix("Bearer ")
        async with openai.AsyncOpenAI(base_url=f"{found.url}/v1", api_key=key) as client:
            answer = await client.completions.create(
                model="llama-3-8b", prompt="x", max_tokens=3,
                extra_body={"ignore_eos": True, "penstock": {"deadline_s": 60}})
            names = [model.id for model in (await client.models.list()).data]
        return answer.usage.completion_tokens, names

    assert through(tmp_path, work, aliases={"quick": {"deadline_s": 3}}) == (
        3, ["llama-3-8b", "quick"])


def test_a_tenant_sees_its_own_and_who_administers_sees_all(tmp_path) -> None:
    async def work(found):
        answer, _ = await found.ask("shop")
        path = f"/v1/penstock/decisions/{answer.headers[DECISION_HEADER]}"
        status, decision = await found.get("shop", path)
        assert (status, decision["service_class"], decision["tenant"]) == (200, "batch", "shop")
        assert (await found.get("bar", path))[0] == 404
        assert (await found.get("admin", path))[0] == 200
        for path in ("/metrics", "/v1/penstock/status"):
            assert [(await found.get(who, path))[0] for who in ("shop", "bar", "admin")] == [
                403, 403, 200]
        return [[one["tenant"] for one in (await found.get(who, "/v1/penstock/spend"))[1]["tenants"]
                 ] for who in ("shop", "bar", "admin")]

    assert through(tmp_path, work) == [["shop"], ["bar"], ["bar", "shop"]]


PATHS = {"metrics": ("GET", "/metrics"), "status": ("GET", "/v1/penstock/status"),
         "drain": ("POST", "/v1/penstock/engines/drain"), "spend": ("GET", "/v1/penstock/spend"),
         "plan": ("POST", "/v1/queue/solve"), "ask": ("GET", "/v1/penstock/decisions/x")}


def test_each_scope_opens_its_paths_and_no_others(tmp_path) -> None:
    async def work(found):
        store, seen = open_store(f"sqlite:///{tmp_path}/ledger.db"), {}
        texts = {}
        for scope in PATHS:
            texts[scope], key = new_key("shop", 0.0, secrets.token_bytes, scopes=(scope,))
            store.add_key(key)
        texts["expired"], key = new_key("shop", 0.0, secrets.token_bytes, expires_s=5.0)
        store.add_key(key)
        store.close()
        await asyncio.sleep(2.5)  # a look at the ledger is due every two seconds
        for name, text in texts.items():
            for scope, (method, path) in PATHS.items():
                async with found.sessions["nobody"].request(
                        method, path, json={} if method == "POST" else None,
                        headers={"Authorization": f"Bearer {text}"}) as answer:
                    said = (await answer.read()).decode()
                    seen[name, scope] = (answer.status, f"lacks the scope '{scope}'" in said,
                                         "expired_key" in said)
        return seen

    for (name, scope), (status, lacks, expired) in through(tmp_path, work).items():
        if name == "expired":
            assert (status, expired) == (401, True)
        else:
            assert (status == 403, lacks) == ((False, False) if name == scope else (True, True))


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_charged_is_what_was_delivered(tmp_path, stream) -> None:
    async def work(found):
        async def one(who, number):
            answer, body = await found.ask(who, max_tokens=number, stream=stream)
            assert answer.status == 200
            assert not stream or body.endswith(b"data: [DONE]\n\n")
            # The end of an answer is not seen before its charge is written.
            row = charges(tmp_path)[answer.headers[DECISION_HEADER]]
            assert row == (who, 10, number, 10_000 * 1 + number * 10_000)

        await asyncio.gather(*(one(who, number) for who in ("shop", "bar")
                               for number in range(1, 25)))
        _, spent = await found.get("shop", "/v1/penstock/spend")
        return spent["tenants"][0]

    spent = through(tmp_path, work)
    total = sum(10_000 + number * 10_000 for number in range(1, 25)) / 1e9
    assert spent["spent"] == pytest.approx(total, abs=1e-9)
    assert spent["budget"] == {"amount": 5.0, "reserved": 0.0, "left": pytest.approx(5 - total)}
    assert spent["models"] == [{"model": "llama-3-8b", "num_requests": 24, "prompt_tokens": 240,
                                "output_tokens": 300, "spent": pytest.approx(total)}]


def test_who_leaves_pays_for_what_came(tmp_path) -> None:
    async def work(found):
        seen = {}
        for wanted in (1, 5, 30):
            async with found.sessions["shop"].post("/v1/completions", json={
                    **STREAM, "max_tokens": 7000}) as answer:
                got = 0
                async for line in answer.content:
                    got += b'"text"' in line
                    if got >= wanted:
                        break
                seen[answer.headers[DECISION_HEADER]] = got
                answer.close()
        while len(charges(tmp_path)) < 3:
            await asyncio.sleep(0.01)
        return seen, (await found.get("shop", "/v1/penstock/spend"))[1]["tenants"][0]

    seen, spent = through(tmp_path, work, speed=20.0)
    rows = charges(tmp_path)
    assert rows.keys() == seen.keys()
    for name, got in seen.items():
        tenant, prompt, output, nanos = rows[name]
        assert tenant == "shop"
        assert prompt == 10
        assert got <= output < 7000
        assert nanos == 10_000 + output * 10_000
    assert spent["num_in_flight"] == 0
    assert spent["budget"]["reserved"] == 0


def test_what_is_refused_or_fails_costs_nothing(tmp_path) -> None:
    async def work(found):
        statuses = [(await found.ask("shop", **body))[0].status for body in (
            {"prompt": [1] * 100_000}, {"max_tokens": 10**6, "stream": False},
            {"model": "nonsense"}, {"penstock": {"nonsense": 1}})]
        return statuses, (await found.get("shop", "/v1/penstock/spend"))[1]["tenants"][0]

    statuses, spent = through(tmp_path, work)
    assert all(status >= 400 for status in statuses), statuses
    assert charges(tmp_path) == {}
    assert (spent["spent"], spent["budget"]["reserved"], spent["num_in_flight"]) == (0, 0, 0)


def test_a_budget_ends(tmp_path) -> None:
    async def work(found):
        statuses = [(await found.ask("shop", max_tokens=100))[0].status for _ in range(3)]
        answer, body = await found.ask("shop", max_tokens=100)
        return statuses, answer.status, answer.headers["Retry-After"], orjson.loads(body)["error"]

    tenants = [{"name": "shop", "budget": {"amount": 0.004, "per": "day"}}]
    statuses, status, after, error = through(tmp_path, work, tenants)
    assert statuses == [200] * 3
    assert (status, error["code"], error["type"]) == (429, "budget_exhausted", "rate_limit_error")
    assert 1 <= int(after) <= 86_400
    assert "the budget of tenant 'shop' is 0.004 per day; 0.00303 is spent" in error["message"]


def test_a_key_that_is_made_or_revoked_counts_soon(tmp_path) -> None:
    async def work(found):
        store = open_store(f"sqlite:///{tmp_path}/ledger.db")
        text, key = new_key("bar", 1.0, secrets.token_bytes)
        found.sessions["new"] = aiohttp.ClientSession(found.url, headers={
            "Authorization": f"Bearer {text}"})
        assert (await found.get("new", "/v1/models"))[0] == 401
        store.add_key(key)
        while (await found.get("new", "/v1/models"))[0] == 401:
            await asyncio.sleep(0.05)
        store.revoke_key(key.key_id, 2.0)
        while (await found.get("new", "/v1/models"))[0] == 200:
            await asyncio.sleep(0.05)
        return (await found.get("bar", "/v1/models"))[0]

    assert through(tmp_path, work) == 200


def test_prometheus_reads_what_tenants_spend(tmp_path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async def work(found):
        await found.ask("shop", max_tokens=20)
        await found.ask("shop", max_tokens=10**6)
        return (await found.get("admin", "/metrics"))[1].decode()

    tenants = [{"name": "shop", "budget": {"amount": 0.05}}, {"name": "bar"}]
    text = through(tmp_path, work, tenants)
    seen = {(sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples
            if "tenant" in sample.name or "ledger" in sample.name}
    assert seen["penstock:tenant_charged_total", "shop"] == pytest.approx(210e-6)
    assert seen["penstock:tenant_charged_total", "bar"] == 0
    assert seen["penstock:tenant_refused_total", "budget_exhausted", "shop"] == 1
    assert seen["penstock:tenant_budget", "shop"] == 0.05
    assert seen["penstock:tenant_budget_spent", "shop"] == pytest.approx(210e-6)
    assert seen["penstock:tenant_budget_reserved", "shop"] == 0
    assert ("penstock:tenant_budget", "bar") not in seen
    assert seen["penstock:tenant_requests_in_flight", "shop"] == 0
    assert seen["penstock:ledger_available",] == 1


def test_keys_are_nowhere_to_be_seen(tmp_path, capfd) -> None:
    async def work(found):
        await found.ask("shop")
        pages = [await found.get("admin", path) for path in (
            "/metrics", "/v1/penstock/status", "/v1/penstock/spend", "/openapi.json")]
        secrets_ = [session.headers["Authorization"].split("-", 2)[2]
                    for name, session in found.sessions.items() if name != "nobody"]
        return repr(pages), secrets_

    pages, hidden = through(tmp_path, work)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("latin-1")
    out = "".join(capfd.readouterr())
    assert not [one for one in hidden if one in pages + kept + out]


@pytest.mark.parametrize(("host", "open_to_all", "refused"), [
    ("0.0.0.0", False, True), ("0.0.0.0", True, False), ("127.0.0.1", False, False),
    ("::1", False, False)])
def test_a_door_is_not_left_open_by_oversight(host, open_to_all, refused) -> None:
    fleet = parse_fleet(FLEET, overrides={
        "replicas": [{"count": 1, "endpoints": ["http://127.0.0.1:9"]}]})

    async def run():
        async with running(fleet, LeastLoaded(), host, 0, limits=Limits(),
                           access=Access(None, open_to_all)) as (url, _):
            return url

    if refused:
        with pytest.raises(InputError, match="needs keys"):
            asyncio.run(run())
    else:
        assert asyncio.run(run()).startswith("http://")


def test_where_there_are_keys_any_address_will_do(tmp_path) -> None:
    url, notes = f"sqlite:///{tmp_path}/ledger.db", []
    fleet = parse_fleet(FLEET, overrides={
        "replicas": [{"count": 1, "endpoints": ["http://127.0.0.1:9"]}],
        "gateway": {"tenants": [{"name": "shop"}]}})

    async def run():
        async with running(fleet, LeastLoaded(), "0.0.0.0", 0, limits=Limits(),
                           access=Access(url), on_bug=notes.append):
            return notes

    assert asyncio.run(run()) == ["there is no API key yet, so no request is admitted; "
                                  "penstock keys create makes one"]


@pytest.mark.parametrize("way", ["nobody is well", "everybody fails", "it breaks off"])
def test_no_tenant_is_told_where_engines_are(tmp_path, way) -> None:
    faults = {"nobody is well": (odd.well, 503), "everybody fails": (odd.internal, 200),
              "it breaks off": (odd.killed, 200)}

    async def run():
        handler, health = faults[way]
        async with odd.engine(handler, health) as engine, home(tmp_path, urls=[engine]) as one:
            answer, said = await one.ask("shop", prompt="x")
            path = f"/v1/penstock/decisions/{answer.headers[DECISION_HEADER]}"
            return engine, said, await one.get("shop", path), await one.get("admin", path)

    engine, said, own, operators = asyncio.run(run())
    assert engine.encode() not in said
    assert engine not in str(own)
    assert b"replica 0" in said or way == "it breaks off"
    assert "replica 0" in str(own)
    assert engine in str(operators)


def test_planning_beside_a_gateway_is_for_administrators_and_stands_in_one_description(
        tmp_path) -> None:
    async def work(found):
        statuses = {}
        for who in ("shop", "nobody", "admin"):
            async with found.sessions[who].post("/v1/queue/solve", json={
                    **EXAMPLE, "rate_per_s": 1.0}) as answer:
                statuses[who] = answer.status
        return statuses, (await found.get("nobody", "/openapi.json"))[1]

    statuses, described = through(tmp_path, work)
    assert statuses == {"shop": 403, "nobody": 401, "admin": 200}
    assert {"/v1/plan", "/v1/queue/solve", "/v1/chat/completions", "/openapi.json"} <= set(
        described["paths"])
