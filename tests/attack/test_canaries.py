"""Secrets of requests are in no place that outlasts them: a canary in each secret, and every place
that ``penstock serve`` writes to is searched."""

import asyncio
import json
import secrets
import signal
import sqlite3
import threading
import time
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")

from aiohttp import web

from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support import misbehaving_engines as odd
from support.penstock_process import process
from support.raw_http import sent
from support.server_in_thread import in_a_thread
from support.small_fleet import FLEET

TENANTS = """\
gateway: {tenants: [{name: shop, budget: {amount: 5}}, {name: bank, confidential: true}]}
"""
NUM_ENGINES = 2 * 13 + 4
CANARY = "canary" + secrets.token_hex(6)
SECRET = f"{CANARY}-prompt"
HEADER = f"{CANARY}-header"
BARE = {"garbage": (200, {}), "packed": (200, {"Content-Encoding": SECRET}),
        "redirect": (302, {"Location": f"http://127.0.0.1:9/{SECRET}"}),
        "type": (200, {"Content-Type": f"text/{SECRET}"})}


@asynccontextmanager
async def echoing():
    """An engine that repeats the whole request wherever an engine says something."""
    async def answer(request):
        content = await request.text()
        told = {"error": {"message": content, "type": content, "code": 400}}
        body = json.loads(content)
        mode = body.get("user")
        if mode in ("400", "500", "503"):
            return web.json_response(told, status=int(mode), headers={"Retry-After": SECRET})
        if mode in BARE:
            status, headers = BARE[mode]
            return web.Response(text=content, status=status, headers=headers)
        end = content if mode == "end" else "stop"
        call = {"id": SECRET, "function": {"name": SECRET, "arguments": content}}
        part = {"index": 0, "text": content, "finish_reason": end, "delta": {"tool_calls": [call]}}
        if not body.get("stream"):
            return web.json_response({"choices": [part], "usage": {"prompt_tokens": content}})
        response = await odd.begun(request)
        first = told if mode == "error" else {"choices": [part]}
        await response.write(b"data: " + json.dumps(first).encode() + b"\n\n")
        if mode == "broken":
            await response.write(b"data: " + content.encode() + b"{{\n\n")
        if mode == "late error":
            await response.write(b"data: " + json.dumps(told).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def healthy(_):
        return web.Response()

    app = web.Application()
    app.router.add_get("/health", healthy)
    app.router.add_post("/{any:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(NUM_ENGINES):  # each failure makes one of them unavailable for a while
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield [f"http://127.0.0.1:{port}" for _, port in runner.addresses]
    await runner.cleanup()


class Collector(BaseHTTPRequestHandler):
    """A double of an OTLP endpoint."""

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def collector(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield server.got
    server.shutdown()
    thread.join()
    server.server_close()


def keys_in(folder):
    store, texts = open_store(f"sqlite:///{folder}/fleet.ledger.db"), {}
    for name in ("shop", "bank", ""):
        texts[name or "admin"], key = new_key(name, 0.0, secrets.token_bytes, admin=not name)
        store.add_key(key)
    store.close()
    return texts


def asked(url, key, method, path, body=None, **headers):
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json",
               "X-Canary": HEADER, "Cookie": f"session={HEADER}", "User-Agent": HEADER, **headers}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


MODES = ("400", "500", "503", "garbage", "packed", "redirect", "type", "end", "whole", "error",
         "broken", "late error", "stream")


def everything_asked(url, keys):
    """Requests of every kind, well and malformed, plain and confidential."""
    num_answered = 0
    for name in ("shop", "bank"):
        for mode in MODES:
            for stream in (False, True):
                body = {"prompt": SECRET, "user": mode, "stream": stream, "max_tokens": 5,
                        "tools": [{"function": {"name": SECRET}}],
                        "penstock": {"session": f"{SECRET}-session"}}
                status, _ = asked(url, keys[name], "POST", "/v1/completions", body)
                num_answered += status == 200
    key = keys["shop"]
    for body in ({"prompt": SECRET, "model": SECRET}, {"prompt": {"text": [SECRET]}, "n": SECRET},
                 {"prompt": SECRET, "penstock": {SECRET: 1}},
                 {"messages": SECRET, "stream": SECRET},
                 {"prompt": SECRET, "penstock": {"service_class": SECRET}}, [SECRET], SECRET):
        asked(url, key, "POST", "/v1/chat/completions", body)
    asked(url, key, "POST", f"/v1/{SECRET}?q={SECRET}", {"prompt": SECRET})
    asked(url, key, "GET", f"/v1/penstock/decisions/{SECRET}?q={SECRET}")
    asked(url, key, "POST", "/v1/completions", {"prompt": SECRET}, **{"X-Penstock-Class": SECRET})
    asked(url, key, "POST", "/v1/completions", {"prompt": SECRET}, **{f"X-Penstock-{HEADER}": "1"})
    asked(url, key, "POST", "/v1/completions", {"prompt": SECRET}, Origin=f"http://{HEADER}")
    asked(url, key, "POST", "/v1/completions", {"prompt": SECRET}, Expect=HEADER)
    asked(url, f"psk-000000000000-{SECRET}", "GET", "/v1/models")
    asked(url, keys["admin"], "POST", "/v1/penstock/engines/drain", {"url": SECRET})
    asked(url, keys["admin"], "POST", "/v1/plan", {"name": SECRET})
    head = f"POST /{SECRET} HTTP/1.1\r\nAuthorization: Bearer {key}\r\n".encode()
    for odd_part in (b"X-%b\x00: y\r\n\r\n", b"Content-Length: %b\r\n\r\n", b"%b\r\n\r\n",
                     b"Transfer-Encoding: chunked\r\n\r\n%b\r\n", b"Transfer-Encoding: %b\r\n\r\n"):
        asyncio.run(sent(url, head + odd_part % SECRET.encode(), 1.0, end=False))
    return num_answered


def sinks(folder, front, url, keys, spans):
    """Every place that outlasts a request, as bytes by name."""
    found = {path: asked(url, keys["admin"], "GET", path)[1]
             for path in ("/metrics", "/v1/penstock/status", "/v1/penstock/spend",
                          "/v1/penstock/decisions/none", "/openapi.json", "/v1/models")}
    for line in (folder / "decisions.jsonl").read_text().splitlines():
        name = json.loads(line)["decision_id"]
        found[name] = asked(url, keys["admin"], "GET", f"/v1/penstock/decisions/{name}")[1]
    for name in ("environ", "cmdline"):
        try:
            found[name] = Path(f"/proc/{front.pid}/{name}").read_bytes()
        except OSError:  # not Linux, or closed to others
            continue
    front.send_signal(signal.SIGTERM)
    out, err = front.communicate(timeout=60)
    found |= {"stdout": out.encode(), "stderr": err.encode(), "traces": b"".join(spans)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return found | {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_no_canary_is_in_any_place_that_outlasts_its_request(repository, tmp_path,
                                                             collector) -> None:
    keys = keys_in(tmp_path)
    with in_a_thread(echoing()) as urls:
        (tmp_path / "fleet.yaml").write_text(FLEET.replace("count: 4", "count: 64").replace(
            "[{count: 1}]", f"[{{count: {len(urls)}, endpoints: {json.dumps(urls)}}}]") + TENANTS)
        with process(repository, tmp_path, "serve", "fleet.yaml", "--port", "0", "--traces",
                     "--decisions", "decisions.jsonl", "--attempts", "1") as front:
            url = front.stdout.readline().split()[1]
            num_answered = everything_asked(url, keys)
            deadline = time.monotonic() + 10
            while not collector and time.monotonic() < deadline:
                time.sleep(0.05)
            found = sinks(tmp_path, front, url, keys, collector)
    assert num_answered >= 6  # the prompts have been at the engine
    assert front.returncode == 0
    assert {"stderr", "traces", "decisions.jsonl", "fleet.ledger.db"} <= found.keys()
    assert found["traces"]
    assert {name: found[name][:3000] for name in found if CANARY.encode() in found[name]} == {}
    parts = [text[-20:].encode() for text in keys.values()]  # of the secret
    assert [name for name in found if any(part in found[name] for part in parts)] == []
    decisions = [json.loads(line) for line in found["decisions.jsonl"].splitlines()]
    assert {one["tenant"] for one in decisions} == {"shop"}  # nothing of confidential requests
    assert b"bank" not in found["traces"]
    with sqlite3.connect(tmp_path / "fleet.ledger.db") as ledger:
        assert CANARY not in "".join(ledger.iterdump())
    assert len(found["stderr"]) < 20_000
