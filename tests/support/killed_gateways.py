"""Gateways of several workers on one ledger, killed under load, and the laws of their books.

The engines are in this process, so that what a tenant really has in flight is known. Clients never
leave, so only a kill may break an answer off.
"""

import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy import func, select

from penstock.engines.process import free_port
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import CHARGES, OPEN, SPEND
from support.fake_http_engines import http_engine
from support.reconciled import differences
from support.worker_processes import children, lives

INPUT, OUTPUT, PROMPT_TOKENS = 2_000, 5_000, 10  # nanos per token
MOST_OUTPUT_TOKENS = 12
IN_FLIGHT, PER_MINUTE, BUDGET = 12, 240, 0.01
"""Limits: requests in flight and per minute of ``shop``, money of ``thrifty``."""
TENANTS = ("shop", "thrifty", "bar")
FLEET = f"""\
name: killed
accelerators: [{{name: a100-80gb, count: 2}}]
models: [{{name: llama-3-8b, price: {{input_per_million: 2, output_per_million: 5}}}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.5}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 400}}, output: {{fixed: 40}}}}, rate_per_s: 5,
           num_requests: 60}}]
replicas: [{{count: 2, endpoints: ENDPOINTS}}]
gateway:
  tenants:
    - {{name: shop, max_in_flight: {IN_FLIGHT}, requests_per_minute: {PER_MINUTE}}}
    - {{name: thrifty, budget: {{amount: {BUDGET}, per: total}}}}
    - {{name: bar}}
"""
_TOKEN_S = 0.03
_PATIENCE_S = 120.0
_LEASE_S = 2.0  # of a killed process, to others of its machine
_REFUSED = {"max_in_flight", "requests_per_minute", "budget_exhausted", "budget_reserved",
            "ledger_unavailable", "overloaded"}


class Engines:
    """What both engines see: tokens sent by request, and requests in flight by tenant."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.begun_s: dict[int, float] = {}
        self.tenant: dict[int, int] = {}
        self.most: Counter[int] = Counter()
        self._running: dict[int, tuple[web.Request, int]] = {}

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """Stream a token each moment. A request's prompt has its tenant and its number."""
        body = await http.json()
        tenant, number = body["prompt"][:2]
        self.begun_s.setdefault(number, time.monotonic())
        self.tenant[number], self._running[number] = tenant, (http, tenant)
        now = sum(of == tenant and not _is_closing(one) for one, of in self._running.values())
        self.most[tenant] = max(self.most[tenant], now)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(http)
            for place in range(body["max_tokens"]):
                await asyncio.sleep(_TOKEN_S)
                self.sent[number] = max(self.sent[number], place + 1)
                await response.write(_event([{"index": 0, "text": " t", "finish_reason": None}]))
        finally:
            self._running.pop(number, None)  # before the end is told: a place is free no sooner
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": body["max_tokens"]}
        await response.write(_event([{"index": 0, "text": "", "finish_reason": "length"}])
                             + _event([], usage=usage) + b"data: [DONE]\n\n")
        return response


def _is_closing(http: web.Request) -> bool:
    return http.transport is None or http.transport.is_closing()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + json.dumps({"object": "text_completion", "choices": choices,
                                   **more}).encode() + b"\n\n"


@dataclass(slots=True)
class Heard:
    """What a client heard of a request: ``how`` it ended, once."""

    number: int
    gateway: int
    begun_s: float
    ended_s: float = 0.0
    how: str = ""
    decision: str | None = None
    tokens: int = 0


class Gateway:
    """``penstock serve`` with two workers on a fixed port, which can be started again."""

    def __init__(self, folder: Path, ledger: str, number: int) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = folder / f"gateway-{number}.log"
        self._command = [sys.executable, "-m", "penstock", "serve", "killed.yaml", "--workers", "2",
                         "--ledger", ledger, "--port", str(port)]
        self._folder = folder
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)

    def workers(self) -> list[int]:
        """The worker processes that live."""
        return [pid for pid in children(self.process.pid) if lives(pid)]

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until it serves with both workers."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            with suppress(aiohttp.ClientError, OSError):
                async with session.get(f"{self.url}/health") as answer:
                    if answer.status == 200 and len(self.workers()) == 2:
                        return
            await asyncio.sleep(0.1)
        raise AssertionError(f"a gateway does not start: {self.log.read_text()[-2000:]}")


class KilledGateways:
    """Two gateways and their clients. ``killed`` counts kills, ``broken`` has a line for each
    broken law."""

    def __init__(self, folder: Path, ledger: str, rng: random.Random) -> None:
        self._folder, self._ledger, self._rng = folder, ledger, rng
        self.engines = Engines()
        self.heard: list[Heard] = []
        self.killed: Counter[str] = Counter()
        self.broken: list[str] = []
        self.spent: dict[str, int] = {}
        self._kills: list[tuple[float, float, int]] = []
        """When a gateway was harmed, when it was well again, and which it was."""
        self._keys = {}
        store = open_store(ledger)
        for name in TENANTS:
            self._keys[name], key = new_key(name, time.time(), secrets.token_bytes)
            store.add_key(key)
        store.close()

    async def run(self, num_kills: int) -> None:
        """Kill so often under load, then end all in good order and judge the books."""
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(http_engine(self.engines.answer, "llama-3-8b"))
                    for _ in range(2)]
            (self._folder / "killed.yaml").write_text(FLEET.replace("ENDPOINTS", json.dumps(urls)))
            session = await stack.enter_async_context(aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True)))
            gateways = await stack.enter_async_context(self._started(session))
            ending = asyncio.Event()
            clients = [asyncio.create_task(self._client(session, gateways, ending))
                       for _ in range(24)]
            for _ in range(num_kills):
                await asyncio.sleep(self._rng.uniform(0.1, 1.5))
                await self._kill(gateways, session)
            await asyncio.sleep(_LEASE_S)
            ending.set()
            await asyncio.wait_for(asyncio.gather(*clients), _PATIENCE_S)
            for gateway in gateways:
                gateway.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(gateway.process.wait, _PATIENCE_S)
        self._judge()

    @asynccontextmanager
    async def _started(self, session: aiohttp.ClientSession) -> AsyncIterator[list[Gateway]]:
        gateways = [Gateway(self._folder, self._ledger, number) for number in range(2)]
        try:
            for gateway in gateways:
                await gateway.ready(session)
            yield gateways
        finally:
            for gateway in gateways:
                gateway.process.kill()
                await asyncio.to_thread(gateway.process.wait)

    async def _kill(self, gateways: list[Gateway], session: aiohttp.ClientSession) -> None:
        number = self._rng.randrange(2)
        gateway, begun_s = gateways[number], time.monotonic()
        workers = gateway.workers()
        what = self._rng.choices(("worker", "gateway"), (2, 1))[0]
        if what == "gateway" or not workers:
            gateway.process.kill()
            await asyncio.to_thread(gateway.process.wait)
            gateway.start()
        else:
            os.kill(worker := self._rng.choice(workers), signal.SIGKILL)
            while lives(worker):  # a busy host may let it live on for a while
                await asyncio.sleep(0.01)
        self.killed[what] += 1
        self._kills.append((begun_s, float("inf"), number))
        await gateway.ready(session)
        self._kills[-1] = (begun_s, time.monotonic(), number)

    async def _client(self, session: aiohttp.ClientSession, gateways: list[Gateway],
                      ending: asyncio.Event) -> None:
        while not ending.is_set():
            one = Heard(len(self.heard), self._rng.randrange(2), time.monotonic())
            self.heard.append(one)
            tenant = self._rng.choices((0, 1, 2), (6, 1, 2))[0]
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    one.how = await self._ask(session, gateways[one.gateway].url, one, tenant)
            except TimeoutError:  # an OSError, too
                one.how = "nothing"
            except (aiohttp.ClientError, OSError):
                one.how = "broken off"
            one.ended_s = time.monotonic()
            await asyncio.sleep(0.02 if one.how == "whole" else 0.1)

    async def _ask(self, session: aiohttp.ClientSession, url: str, one: Heard, tenant: int) -> str:
        body = {"prompt": [tenant, one.number, *[1] * (PROMPT_TOKENS - 2)], "stream": True,
                "max_tokens": self._rng.randint(1, MOST_OUTPUT_TOKENS), "ignore_eos": True}
        headers = {"Authorization": f"Bearer {self._keys[TENANTS[tenant]]}"}
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as answer:
            one.decision = answer.headers.get("X-Penstock-Decision")
            if answer.status != 200:
                return str((await answer.json())["error"]["code"])
            done = False
            async for line in answer.content:
                one.tokens += b'" t"' in line
                done = done or line.strip() == b"data: [DONE]"
            return "whole" if done else "broken off"

    # -- laws -----------------------------------------------------------------------------------

    def _judge(self) -> None:
        self.broken += [*self._ends(), *self._limits(), *self._books(),
                        *differences(self._ledger)]

    def _ends(self) -> list[str]:
        """Every request ends once: whole, refused, or broken off by a kill."""
        found = []
        for one in self.heard:
            by_kill = any(one.gateway == number and one.begun_s < well_s and one.ended_s > begun_s
                          for begun_s, well_s, number in self._kills)
            if one.how not in {"whole", *_REFUSED} and not by_kill:
                past_s = [one.ended_s - well_s for _, well_s, number in self._kills
                          if number == one.gateway and well_s < one.ended_s]
                found.append(f"ends: request {one.number} ended as {one.how!r} without a kill, "
                             f"after {one.ended_s - one.begun_s:.2f} s, "
                             f"{min(past_s, default=-1.0):.2f} s after the last one was over")
        return found

    @property
    def over_rate(self) -> float:
        """Most requests of ``shop`` in any window beyond what its rate allows there."""
        return max((most for _, _, most in self._windows()), default=0.0)

    def _windows(self) -> list[tuple[float, float, float]]:
        """For each request of ``shop``, the window up to it with most beyond the rate: begin, end
        and how many."""
        times_s = sorted(self.engines.begun_s[number] for number, tenant in
                         self.engines.tenant.items() if tenant == 0)
        found, level, begun_s, before_s = [], 0.0, 0.0, 0.0
        for at_s in times_s:
            level -= (at_s - before_s) * PER_MINUTE / 60.0
            if level <= 0.0:
                level, begun_s = 0.0, at_s
            level, before_s = level + 1.0, at_s
            found.append((begun_s, at_s, level - PER_MINUTE - 1.0))
        return found

    def _limits(self) -> list[str]:
        """No limit is exceeded; a rate by what killed processes had used of a lease."""
        found = []
        if self.engines.most[0] > IN_FLIGHT:
            found.append(f"limits: {self.engines.most[0]} requests in flight of {IN_FLIGHT}")
        times_s = [self.engines.begun_s[number] for number, tenant in self.engines.tenant.items()
                   if tenant == 0]
        for begun_s, at_s, over in self._windows():
            leased = sum(sum(kill_s - _LEASE_S <= one <= kill_s for one in times_s)
                         for kill_s, _, _ in self._kills if begun_s <= kill_s <= at_s)
            if over > leased:
                found.append(f"limits: {over:.0f} requests beyond the rate, {leased} leased by "
                             "killed processes")
        return found[:3]

    def _books(self) -> list[str]:
        """Spending is that of the tokens, to the nano; seen answers are charged, and no more."""
        found, store = [], open_store(self._ledger)
        with store._engine.connect() as connection:
            rows = {row.decision_id: row for row in connection.execute(select(CHARGES))}
            num_open = connection.execute(select(func.count()).select_from(OPEN)).scalar_one()
            spent = {tenant: int(nanos) for tenant, nanos in connection.execute(
                select(SPEND.c.tenant, func.sum(SPEND.c.charged_nanos)).group_by(SPEND.c.tenant))}
        store.close()
        if num_open:
            found.append(f"books: {num_open} requests are open for good")
        by_tokens: Counter[str] = Counter()
        for row in rows.values():
            cost = row.prompt_tokens * INPUT + row.output_tokens * OUTPUT
            by_tokens[row.tenant] += cost
            if row.charged_nanos != cost:
                found.append(f"books: {row.decision_id} costs {row.charged_nanos}, tokens {cost}")
        self.spent = spent
        if spent != {tenant: nanos for tenant, nanos in by_tokens.items() if nanos}:
            found.append(f"books: {spent} was spent, tokens are {dict(by_tokens)}")
        if spent.get("thrifty", 0) > BUDGET * 1e9:
            found.append(f"limits: {spent['thrifty']} nanos of a budget of {BUDGET * 1e9:.0f}")
        for one in self.heard:
            row = rows.get(one.decision or "")
            if one.how == "whole" and (row is None or row.output_tokens != one.tokens):
                found.append(f"books: {one.decision} was seen with {one.tokens} tokens: {row}")
            elif row is not None and row.output_tokens > self.engines.sent[one.number]:
                found.append(f"books: {one.decision} costs {row.output_tokens} tokens of "
                             f"{self.engines.sent[one.number]} sent")
        return found
