"""The status page in a real browser, before a gateway that serves requests."""

import asyncio
import re
import subprocess
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.serving.gateway.page import status_page
from penstock.serving.gateway.running import Access
from support import misbehaving_engines as odd
from support.html_pages import headings_descend_by_one, outline


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
