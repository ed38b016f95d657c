"""The status page in a real browser, before a gateway that serves requests."""

import asyncio
import re
import subprocess
import time
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp
import aiohttp.web

from penstock.policy.scale.protocol import GroupFacts
from penstock.serving.gateway.page import status_page
from penstock.serving.gateway.running import Access
from penstock.serving.scaling.groups import LiveReplica
from penstock.serving.scaling.loop import LiveScaling
from support import misbehaving_engines as odd
from support.html_pages import headings_descend_by_one, outline
from support.scaled_loop import Group, Record, Scripted, source_of


def browsed(url, profile):
    """The page's document after its script ran, and the console's messages."""
    return subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", "--no-first-run", f"--user-data-dir={profile}",
         "--virtual-time-budget=3000", "--dump-dom", url],
        capture_output=True, text=True, timeout=120, check=True)


def rows(document, table):
    """Text of each row of a table's body."""
    body = re.search(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', document, re.DOTALL)[1]
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip()
            for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere() -> None:
    page = status_page()
    parsed = outline(page.html)
    assert headings_descend_by_one(parsed.headings)
    assert not parsed.open, "every element is closed"
    assert not re.search(r'(src|href)="(?!#)', page.html)
    assert not re.search(r"https?://(?!www\.w3\.org/)", page.html)
    assert "innerHTML" not in page.html
    assert "connect-src 'self'" in page.policy


@pytest.mark.browser
def test_a_browser_shows_engines_classes_and_who_asks(tmp_path) -> None:
    async def run():
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(odd.engine(one))
                    for one in (odd.well, odd.internal)]
            url, _ = await stack.enter_async_context(odd.gateway(urls))
            session = await stack.enter_async_context(aiohttp.ClientSession(url))
            for _ in range(6):
                async with session.post("/v1/completions", json={"prompt": "x"}) as answer:
                    assert answer.status == 200
            async with session.post("/v1/penstock/engines/drain", json={"url": urls[1]}) as answer:
                assert answer.status == 200
            return urls, await asyncio.to_thread(browsed, url, tmp_path)

    urls, seen = asyncio.run(run())
    document = seen.stdout
    assert "1 of 2 engines healthy" in document
    well, drained = rows(document, "engines")
    assert well.startswith(f"{urls[0]} llama-3-8b on openai ✓ healthy")
    assert "is being drained" in drained
    chat, batch = rows(document, "classes")
    assert re.match(r"chat ttft 2\.00 s, itl 50\.0 ms ✓ 100 % of 99 % 6 ", chat)
    assert batch.startswith("batch e2e 300 s \N{EN DASH} 0 ")
    assert rows(document, "tenants")[0].startswith("default 0 0 ")
    assert document.count('class="ended"') >= 1
    assert "live, " in document
    assert not [line for line in seen.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_without_a_gateway_s_yes_the_page_asks_for_a_key(tmp_path) -> None:
    pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

    async def run():
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(odd.engine(odd.well))
            url, _ = await stack.enter_async_context(odd.gateway(
                [one], access=Access(f"sqlite:///{tmp_path}/ledger.db"),
                gateway={"tenants": [{"name": "shop"}]}))
            return await asyncio.to_thread(browsed, url, tmp_path)

    document = asyncio.run(run()).stdout
    assert re.search(r'<form id="door">', document)
    assert re.search(r'<div id="figures" hidden="">', document)
    assert "API key" in document


def status_of_a_scaled_gateway():
    """A status whose scaling is a real loop's after three decisions."""
    facts = GroupFacts("llama", 1, 4, 1, 2.5, 60.0, 1000)
    group = Group(LiveReplica(0, "ready", 0.0), LiveReplica(1, "starting", 0.0),
                  LiveReplica(2, "draining", 0.0))
    loop = LiveScaling(Scripted(3, 3, 2), [facts], [group], source_of(group), Record(), lambda: 7.0,
                       time.time, advise=False)
    for _ in range(3):
        asyncio.run(loop.decide())
    loop.recent[0]["reason"] = "<b>burst</b> of the last 20 s"
    return {"engines": [], "num_in_flight": 0, "num_waiting": 0, "classes": [], "tick_s": 2.0,
            "ticks": [], "tenants": [], "scaling": {**loop.document(), "num_held": 3}}


@pytest.mark.browser
def test_a_browser_shows_replicas_by_state_and_why_they_change(tmp_path) -> None:
    status = status_of_a_scaled_gateway()

    async def run():
        app = aiohttp.web.Application()

        async def page(_):
            return aiohttp.web.Response(text=status_page().html, content_type="text/html")

        async def answer(_):
            return aiohttp.web.json_response(status)

        app.router.add_get("/", page)
        app.router.add_get("/v1/penstock/status", answer)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        try:
            site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            return await asyncio.to_thread(browsed, f"http://127.0.0.1:{port}/", tmp_path)
        finally:
            await runner.cleanup()

    seen = asyncio.run(run())
    document = seen.stdout
    assert not re.search(r'<div id="scaling" hidden', document)
    assert "Policy script decided 0 s ago. 7.5 per hour, 3 requests wait for a replica." in document
    assert rows(document, "groups") == ["llama group 0 2 1 1 0 1 1\N{EN DASH}4 7.5"]
    last, first = rows(document, "changes")
    assert re.match(r"\d+ s ago 3 \N{RIGHTWARDS ARROW} 2 script load 2$", last)
    assert re.match(r"\d+ s ago 1 \N{RIGHTWARDS ARROW} 3 &lt;b&gt;burst&lt;/b&gt; of the last 20 s "
                    r"load 2$", first)
    assert not [line for line in seen.stderr.splitlines() if "Uncaught" in line]


@pytest.mark.browser
def test_a_gateway_that_does_not_scale_shows_no_scaling(tmp_path) -> None:
    async def run():
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(odd.engine(odd.well))
            url, _ = await stack.enter_async_context(odd.gateway([engine]))
            return await asyncio.to_thread(browsed, url, tmp_path)

    assert re.search(r'<div id="scaling" hidden', asyncio.run(run()).stdout)
