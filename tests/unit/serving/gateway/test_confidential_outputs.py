"""What a gateway writes and tells of confidential requests: every byte of it is looked through."""

import asyncio
import json
import logging
import re
import secrets
import sqlite3
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("jwt", reason="the extra 'attest' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp
from aiohttp import web

from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import Access, running
from penstock.serving.gateway.traces import NO_TRACING, OtelTracing
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support import misbehaving_engines as odd
from support.nvidia_evidence import NONCE, Signer

CANARY, RARE = "canary-9f3a", "qwen2.5-7b"
FLEET = """\
accelerators: [{name: a100-80gb}, {name: h100-80gb, confidential: true}]
models: [{name: llama-3-8b, price: {input_per_million: 1, output_per_million: 3}},
         {name: qwen2.5-7b, price: {input_per_million: 1, output_per_million: 3}}]
service_classes: [{name: chat, slo: {e2e_s: 60}}, {name: secret, confidential: true}]
traffic: [{model: llama-3-8b, mix: {chat: 1}, rate_per_s: 1,
           lengths: {prompt: {fixed: 10}, output: {fixed: 9}}}]
"""
NUM_OPEN, NUM_SECRET = 5, 23
OPEN_TOKENS, SECRET_TOKENS = (11, 7), (4243, 1789)  # of a prompt and its answer


@dataclass
class Said:
    """All that came out, by where it did; ``clients`` is what the bank itself was answered."""

    outputs: dict[str, bytes] = field(default_factory=dict)
    clients: list[tuple[int, str]] = field(default_factory=list)
    decision: tuple[int, int, int] = (0, 0, 0)  # statuses: to its tenant, another, administrators


async def reply(request):
    """Answers with telling numbers, and as the prompt asks: not at all, or with an echo of it."""
    body = await request.json()
    prompt = str(body.get("prompt"))
    if "fail" in prompt:
        return web.Response(status=500, text=prompt)
    if "refuse" in prompt:
        return web.json_response({"error": {"message": prompt}}, status=400)
    tokens = SECRET_TOKENS if CANARY in prompt else OPEN_TOKENS
    return web.json_response({
        "choices": [{"text": prompt, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}})


async def driven(tmp_path, tracing=NO_TRACING, disclosure=None, mark="tenant") -> Said:
    """A gateway that an open shop and a confidential bank have used; ``mark`` says by what the
    bank's requests are confidential."""
    said, notes = Said(), []
    signer = Signer(tmp_path)
    (tmp_path / "evidence.json").write_bytes(signer.sign("GPU-1", now_s=time.time()))
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    store, texts = open_store(ledger), {}
    for name, admin in (("shop", False), ("bank", False), ("", True)):
        texts[name or "admin"], key = new_key(name, 0.0, secrets.token_bytes, admin=admin)
        store.add_key(key)
    store.close()
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(odd.engine(reply)) for _ in range(3)]
        attested = {"evidence": [str(tmp_path / "evidence.json")], "nonce": NONCE,
                    "devices": [["GPU-1"]]}
        fleet = parse_fleet(FLEET, overrides={
            "attestation": {"verifier": "test", "keys": str(signer.keys_path)},
            "disclosure": disclosure or {},
            "gateway": {"tenants": [{"name": "shop"}, {
                "name": "bank", "confidential": mark == "tenant", "budget": {"amount": 1000}}]},
            "replicas": [
                {"model": "llama-3-8b", "accelerator": "a100-80gb", "count": 1,
                 "endpoints": [urls[0]]},
                {"model": "llama-3-8b", "accelerator": "h100-80gb", "count": 1,
                 "endpoints": [urls[1]], "attestation": attested},
                {"model": RARE, "accelerator": "h100-80gb", "count": 1, "endpoints": [urls[2]],
                 "attestation": attested}]})
        log = DecisionLog(tmp_path / "decisions.jsonl", notes.append)
        url, _ = await stack.enter_async_context(running(
            fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(connect_s=1.0),
            access=Access(ledger), tracing=tracing, log=log, on_bug=notes.append))
        sessions = {name: await stack.enter_async_context(aiohttp.ClientSession(url, headers={
            "Authorization": f"Bearer {text}"})) for name, text in texts.items()}

        async def ask(who, headers=None, data=None, **body):
            content = {"data": data} if data is not None else {
                "json": {"model": "llama-3-8b", "prompt": "x", "max_tokens": 9, **body}}
            async with sessions[who].post("/v1/completions", headers=headers, **content) as answer:
                return answer.status, await answer.text(), answer.headers

        async def get(who, path):
            async with sessions[who].get(path) as answer:
                return answer.status, await answer.read()

        wish = {"X-Penstock-Confidential": "true"} if mark == "header" else (
            {"X-Penstock-Class": "secret"} if mark == "class" else {})
        for number in range(NUM_OPEN):
            await ask("shop", prompt=f"open {number}")
        for number in range(NUM_SECRET):
            status, _, headers = await ask(
                "bank", {**wish, "X-Penstock-Session": f"{CANARY}-session-{number}"},
                # long enough for the tokens that the engine counts
                prompt=f"{CANARY}-prompt-{number}" + " x" * 2200, max_tokens=2000,
                model=RARE if number % 3 else "llama-3-8b", user=f"{CANARY}-user")
            assert status == 200
        decision_id = headers["X-Penstock-Decision"]
        for body in ({"prompt": f"{CANARY} refuse"}, {"prompt": f"{CANARY} fail"},
                     {"model": f"{CANARY}-model"}, {"stream": f"{CANARY}"},
                     {"penstock": {CANARY: 1}}, {"n": CANARY}):
            said.clients.append((await ask("bank", wish, **body))[:2])
        for data in (f'{{"prompt": "{CANARY}', f'["{CANARY}"]', CANARY.encode() + b"\xff"):
            said.clients.append((await ask("bank", wish, data=data))[:2])
        said.decision = tuple([(await get(who, f"/v1/penstock/decisions/{decision_id}"))[0]
                               for who in ("bank", "shop", "admin")])
        for path in ("/metrics", "/v1/penstock/status", "/v1/penstock/spend", "/openapi.json",
                     "/v1/models", "/status"):
            said.outputs[path] = (await get("admin", path))[1]
        said.outputs["shop's spend"] = (await get("shop", "/v1/penstock/spend"))[1]
        said.outputs["bank's own spend"] = (await get("bank", "/v1/penstock/spend"))[1]
    log.close()
    said.outputs["notes"] = "\n".join(notes).encode()
    for path in tmp_path.iterdir():
        if path.name.startswith(("ledger", "decisions")):
            said.outputs[path.name] = path.read_bytes()
    return said


@pytest.fixture
def tracing():
    """A tracer, and the spans that it would send."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracing(provider.get_tracer("test")), exporter


def metrics(text):
    """Series with their values."""
    found = {}
    for line in text.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


@pytest.mark.parametrize("mark", ["tenant", "class", "header"])
def test_nothing_of_a_confidential_request_leaves_the_gateway(tmp_path, tracing, caplog, capfd,
                                                              mark) -> None:
    caplog.set_level(logging.DEBUG)
    tracer, exporter = tracing
    said = asyncio.run(driven(tmp_path, tracer, mark=mark))
    said.outputs["log"] = caplog.text.encode()
    out, err = capfd.readouterr()
    said.outputs["printed"] = (out + err).encode()
    said.outputs["spans"] = "\n".join(
        span.to_json() for span in exporter.get_finished_spans()).encode()
    assert {"ledger.db", "decisions.jsonl", "/metrics", "spans"} <= set(said.outputs)
    for where, content in said.outputs.items():
        assert CANARY.encode() not in content, where
        for number in (*SECRET_TOKENS, *(NUM_SECRET * tokens for tokens in SECRET_TOKENS)):
            # A port of a URL may have the number by chance.
            whole = re.compile(rb"(?<![\w.])(?<!127\.0\.0\.1:)" + str(number).encode()
                               + rb"(?![\w.])")
            # A database holds numbers in binary; see the test of the ledger.
            if where != "bank's own spend" and not where.startswith("ledger"):
                assert not whole.search(content), (where, number)
    # What is there of requests one by one is the shop's.
    decisions = [json.loads(line) for line in said.outputs["decisions.jsonl"].splitlines()]
    assert [one["tenant"] for one in decisions] == ["shop"] * NUM_OPEN
    requests = [span for span in exporter.get_finished_spans() if span.name == "request"]
    assert [span.attributes["penstock.tenant"] for span in requests] == ["shop"] * NUM_OPEN
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {
        span.context.trace_id for span in requests}
    assert said.decision == (200, 404, 404), "its own decision is for the tenant alone"
    # It was the bank itself that was told of its own words.
    assert {status for status, _ in said.clients} >= {400, 502}


def test_metrics_count_them_in_buckets_and_by_no_model(tmp_path) -> None:
    said = asyncio.run(driven(tmp_path))
    series = metrics(said.outputs["/metrics"])
    assert not [name for name in series if f'model_name="{RARE}"' in name]
    finished = 'penstock:requests_total{model_name="llama-3-8b",outcome="finished",' \
               'service_class="chat"}'
    assert series[finished] == NUM_OPEN
    assert series['penstock:generation_tokens_total{model_name="llama-3-8b",'
                  'service_class="chat"}'] == NUM_OPEN * OPEN_TOKENS[1]
    told = {name: value for name, value in series.items() if "confidential_requests" in name}
    assert told['penstock:confidential_requests_at_most{outcome="finished",'
                     'service_class="chat"}'] == 32
    assert set(told.values()) <= {16.0, 32.0}
    assert not any("of_model" in name for name in told)
    # No series holds the exact number, alone or with the shop's.
    assert not {float(NUM_SECRET), float(NUM_SECRET + NUM_OPEN)} & set(series.values())
    assert [name for name in series if "engine_attested" in name and series[name] == 1.0]
    charged = series['penstock:tenant_charged_total{tenant="bank"}']
    assert f"{charged:e}"[0] in "125"


def test_the_status_says_no_more_than_the_metrics(tmp_path) -> None:
    said = asyncio.run(driven(tmp_path))
    status = json.loads(said.outputs["/v1/penstock/status"])
    (chat,) = status["confidential"]["classes"]
    assert chat["outcomes_at_most"]["finished"] == 32
    assert {one["outcomes"].get("finished") for one in status["classes"]} <= {NUM_OPEN, None}
    assert sum(tick["num_ended"] for tick in status["ticks"]) == NUM_OPEN
    secret = [one for one in status["engines"] if one["confidential"] is None]
    assert len(secret) == 2
    assert all(one["num_served"] in (0, 16, 32) for one in secret)
    (spent,) = [one for one in status["tenants"] if one["tenant"] == "bank"]
    assert f"{spent['spent']:e}"[0] in "125"
    (for_admin,) = [one for one in json.loads(said.outputs["/v1/penstock/spend"])["tenants"]
                    if one["tenant"] == "bank"]
    assert for_admin["models"] is None
    own, = json.loads(said.outputs["bank's own spend"])["tenants"]
    exact = NUM_SECRET * (SECRET_TOKENS[0] + 3 * SECRET_TOKENS[1]) / 1e6
    assert own["spent"] == pytest.approx(exact), "its bill is exact"
    assert spent["spent"] >= exact


def test_the_ledger_is_a_bill_without_model_length_or_moment(tmp_path) -> None:
    asyncio.run(driven(tmp_path))
    with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
        rows = connection.execute("select tenant, model, prompt_tokens, output_tokens, at_s "
                                  "from penstock_charges").fetchall()
    bank = [row for row in rows if row[0] == "bank" and row[2]]
    assert {row[1:4] for row in bank} == {("confidential", 8192, 2048)}
    assert all(row[4] % 3600 == 0 for row in bank)
    assert {row[1:4] for row in rows if row[0] == "shop"} == {
        ("llama-3-8b", *OPEN_TOKENS)}


def test_models_are_counted_where_that_is_allowed(tmp_path) -> None:
    said = asyncio.run(driven(tmp_path, disclosure={"allow_model_counts": True,
                                                    "least_count": 10}))
    status = json.loads(said.outputs["/v1/penstock/status"])
    assert status["confidential"]["models"].keys() == {"llama-3-8b", RARE}
    assert status["confidential"]["models"][RARE] == 20
    series = metrics(said.outputs["/metrics"])
    assert series['penstock:confidential_requests_of_model_at_most{model_name="qwen2.5-7b"}'] == 20
