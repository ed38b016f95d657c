"""Fault schedules against real processes: two ``penstock serve`` on one ledger, two engines.

    python benchmarks/live_faults.py 100                 # schedules, about 2 s each
    python benchmarks/live_faults.py 100 --seed 7        # other ones
    python benchmarks/live_faults.py --minutes 20        # a soak: as many as fit, and memory
    python benchmarks/live_faults.py 100 --ledger postgresql+psycopg://...
    python benchmarks/live_faults.py 100 --workers 2     # each gateway has two worker processes

A schedule is a dozen clients of two tenants and one fault: a gateway is killed, stopped for a
while or asked to end; an engine is killed; a key is revoked; or nothing. With
``--workers``, one worker process is killed or stopped for a while, too. Clients stream, leave, and
repeat requests with idempotency keys. Afterwards:

- every answer whose end a client saw is charged, with the tokens that the client saw;
- a request that was repeated with its key is charged at most once;
- nobody came in without a key, with a wrong key, or with a revoked key after the gateways had time
  to learn of the revocation;
- ledger and sums agree (``penstock ledger check``).

Exit status 1 if a law was broken. The simulated schedules (``gateway_simulation.py``) are many
more, and replay by their seeds; these show that the simulation leaves nothing out that matters.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from common import REPOSITORY, show
from gateway import resident_mb
from sqlalchemy import select

sys.path.insert(0, str(REPOSITORY / "tests"))

from penstock.engines.process import free_port
from penstock.serving.tenants.idempotency import REPLAYED_HEADER
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import CHARGES
from support.reconciled import differences
from support.worker_processes import children

INPUT, OUTPUT, PROMPT = 2_000, 5_000, [1] * 10  # nanos per token
FLEET = """\
name: faults
accelerators: [{{name: a100-80gb, count: 2}}]
models: [{{name: llama-3-8b, price: {{input_per_million: 2, output_per_million: 5}}}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.5}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 400}}, output: {{fixed: 40}}}}, rate_per_s: 5,
           num_requests: 60}}]
replicas: [{{count: 2{endpoints}}}]
gateway:
  tenants:
    - {{name: shop, max_in_flight: 40, budget: {{amount: 1000000, per: total}}}}
    - {{name: bar}}
"""
_LEARN_S = 4.0  # in which gateways learn of a revoked key


class Process:
    """A command of Penstock on a fixed port, which can be started again."""

    def __init__(self, folder, *command):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "penstock", *command, "--port", str(self.port)]
        self._environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        self.process = None
        self.log = folder / f"{self.port}.log"

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self.folder, stdout=log, stderr=log,
                                            env=self._environment)

    def signal(self, number):
        self.process.send_signal(number)

    async def ready(self, session):
        deadline_s = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"a process does not start: {self.log.read_text()[-2000:]}")
            try:
                async with session.get(f"{self.url}/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)

    async def end(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)


class Client:
    """One request, repeated with its idempotency key where it has one, and what came back."""

    def __init__(self, rng, gateways, keys, number):
        self.rng, self.gateways = rng, gateways
        self.key = keys[rng.choice(("shop", "shop", "bar"))]
        self.max_tokens, self.stream = rng.randint(1, 12), rng.random() < 0.7
        self.name = f"{number}-{rng.getrandbits(40)}" if rng.random() < 0.3 else None
        self.leaves_s = rng.choice((None, None, None, 0.0, 0.01, 0.1))
        self.decisions, self.ended = [], None

    async def run(self, session, heard):
        for _ in range(6 if self.name else 1):
            try:
                async with asyncio.timeout(30 if self.leaves_s is None else self.leaves_s):
                    code = await self._try(session)
            except TimeoutError:  # an OSError, too
                code = "left" if self.leaves_s is not None else "nothing for 30 s"
            except (aiohttp.ClientError, OSError):
                code = "broken off"
            heard[code] += 1
            if code in ("whole", "left", "already_answered"):
                return
            await asyncio.sleep(self.rng.choice((0.05, 0.3, 1.0)))

    async def _try(self, session):
        headers = {"Authorization": f"Bearer {self.key}"}
        if self.name:
            headers["Idempotency-Key"] = self.name
        body = {"prompt": PROMPT, "max_tokens": self.max_tokens, "ignore_eos": True,
                "stream": self.stream}
        url = self.rng.choice(self.gateways).url
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as answer:
            decision = answer.headers.get("X-Penstock-Decision")
            self.decisions.append(decision)
            if answer.status != 200:
                return (await answer.json())["error"]["code"]
            tokens = 0
            if not self.stream:
                tokens = (await answer.json())["usage"]["completion_tokens"]
            else:
                done = False
                async for line in answer.content:
                    tokens += b'"text"' in line
                    done = done or line.strip() == b"data: [DONE]"
                if not done:
                    return "broken off"
            if not answer.headers.get(REPLAYED_HEADER):
                self.ended = decision, tokens
            return "whole"


class Home:
    """Two gateways, two engines and a ledger."""

    def __init__(self, folder, ledger, seed, num_workers=1):
        self.rng, self.ledger = random.Random(seed), ledger
        self.heard, self.faults, self.broken = Counter(), Counter(), []
        self.keys, self.revoked = {}, []
        self.store = open_store(ledger)
        for name in ("shop", "bar"):
            self.keys[name] = self.make_key(name)
        (folder / "engine.yaml").write_text(FLEET.format(endpoints="").replace("count: 2}]",
                                                                               "count: 1}]"))
        self.engines = [Process(folder, "emulate", "engine.yaml", "--speed", "20")
                        for _ in range(2)]
        endpoints = json.dumps([one.url for one in self.engines])
        (folder / "fleet.yaml").write_text(FLEET.format(endpoints=f", endpoints: {endpoints}"))
        self.num_workers = num_workers
        self.gateways = [Process(folder, "serve", "fleet.yaml", "--ledger", ledger,
                                 "--workers", str(num_workers))
                         for _ in range(2)]

    def make_key(self, tenant):
        text, key = new_key(tenant, time.time(), secrets.token_bytes)
        self.store.add_key(key)
        return text

    async def fault(self):
        """Do harm, and mend it."""
        rng, gateway = self.rng, self.rng.choice(self.gateways)
        await asyncio.sleep(rng.random() * 0.3)
        kind = rng.choices(("nothing", "kill", "stop and go on", "end", "engine dies", "revoke",
                            "worker dies", "worker stops"),
                           (1, 4, 3, 2, 2, 1, *((0, 0) if self.num_workers == 1 else (8, 4))))[0]
        self.faults[kind] += 1
        if kind in ("worker dies", "worker stops"):
            await self.harm_a_worker(children(gateway.process.pid), kill=kind == "worker dies")
        if kind == "kill":
            await gateway.end()
            gateway.start()
        elif kind == "stop and go on":
            gateway.signal(signal.SIGSTOP)
            await asyncio.sleep(rng.choice((0.05, 0.5, 0.5, 3.0)))
            gateway.signal(signal.SIGCONT)
        elif kind == "end":
            gateway.signal(signal.SIGTERM)
            await asyncio.to_thread(gateway.process.wait)
            gateway.start()
        elif kind == "engine dies":
            engine = rng.choice(self.engines)
            await engine.end()
            engine.start()
        elif kind == "revoke":
            text = self.keys["bar"]
            self.keys["bar"] = self.make_key("bar")
            self.store.revoke_key(text.split("-")[1], time.time())
            self.revoked.append((text, time.monotonic() + _LEARN_S))

    async def harm_a_worker(self, workers, *, kill):
        """Kill a worker process, or stop it for a while."""
        if not workers:
            return  # the gateway has been started a moment ago
        worker = self.rng.choice(workers)
        if kill:
            os.kill(worker, signal.SIGKILL)
        else:
            os.kill(worker, signal.SIGSTOP)
            await asyncio.sleep(self.rng.choice((0.05, 0.5, 3.0)))
            os.kill(worker, signal.SIGCONT)

    async def schedule(self, session):
        """One schedule, judged."""
        clients = [Client(self.rng, self.gateways, self.keys, number) for number in range(12)]

        async def one(client):
            await asyncio.sleep(self.rng.random() * 0.6)
            await client.run(session, self.heard)

        work = [asyncio.create_task(one(client)) for client in clients]
        await self.fault()
        await self.strangers(session)
        await asyncio.gather(*work)
        for process in (*self.gateways, *self.engines):
            await process.ready(session)
        self.judge(clients)

    async def strangers(self, session):
        """Nobody comes in without a valid key."""
        texts = ["", "psk-000000000000-x"]
        texts += [text for text, known_s in self.revoked[-3:] if time.monotonic() > known_s]
        for gateway in self.gateways:
            for text in texts:
                headers = {"Authorization": f"Bearer {text}"} if text else {}
                try:
                    async with session.post(f"{gateway.url}/v1/completions", headers=headers,
                                            json={"prompt": PROMPT}) as answer:
                        self.heard[f"stranger: {answer.status}"] += 1
                        if answer.status != 401:
                            self.broken.append(f"doors: a stranger hears {answer.status}")
                except (aiohttp.ClientError, OSError):
                    self.heard["stranger: no connection"] += 1

    def judge(self, clients):
        names = [name for client in clients for name in client.decisions if name]
        with self.store._engine.connect() as connection:
            rows = {row.decision_id: row for row in connection.execute(
                select(CHARGES).where(CHARGES.c.decision_id.in_(names)))}
        for client in clients:
            charged = [name for name in client.decisions
                       if name in rows and rows[name].charged_nanos]
            if client.name and len(charged) > 1:
                self.broken.append(f"repeats: {client.name} is charged as {charged}")
            if client.ended is None:
                continue
            name, tokens = client.ended
            row = rows.get(name)
            cost = len(PROMPT) * INPUT + tokens * OUTPUT
            if row is None:
                self.broken.append(f"lost: {name} ended and is not charged")
            elif (row.output_tokens, row.charged_nanos) != (tokens, cost):
                self.broken.append(f"charges: {name} costs {row.output_tokens} tokens, "
                                   f"{row.charged_nanos} nanos; {tokens} were seen")


async def run(home, options):
    begun_s, num, peak_mb, first_mb = time.monotonic(), 0, 0.0, 0.0
    for process in (*home.engines, *home.gateways):
        process.start()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            for process in (*home.engines, *home.gateways):
                await process.ready(session)
            first_mb = max(resident_mb(one.process.pid) for one in home.gateways)
            while num < options.schedules if options.minutes is None else \
                    time.monotonic() - begun_s < 60 * options.minutes:
                await home.schedule(session)
                num += 1
                peak_mb = max(peak_mb, *(resident_mb(one.process.pid) for one in home.gateways))
                if num % 10 == 0:
                    home.broken += differences(home.ledger)
                    print(f"{num} schedules, {len(home.broken)} laws broken, "
                          f"{time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
            for gateway in home.gateways:
                gateway.signal(signal.SIGTERM)
                await asyncio.to_thread(gateway.process.wait)
    finally:
        for process in (*home.engines, *home.gateways):
            await process.end()
    home.broken += differences(home.ledger)
    return {"schedules": num, "wall_s": round(time.monotonic() - begun_s),
            "heard": dict(home.heard), "faults": dict(home.faults),
            "memory_mb": {"first": round(first_mb), "most": round(peak_mb)}, "broken": home.broken}


def main():
    """Run the schedules and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("schedules", type=int, nargs="?", default=20)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = Home(folder, options.ledger or f"sqlite:///{folder}/ledger.db", options.seed,
                    options.workers)
        found = asyncio.run(run(home, options))
        home.store.close()
    show(found)
    sys.exit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
