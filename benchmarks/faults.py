"""Faults by the thousand against ``penstock serve``: what was injected, and how requests ended.

    python benchmarks/faults.py [--requests 10000] [--seed 7]

Four engines, each a process of its own: two that answer well, two that fail in every way by chance.
One of the good ones is killed with SIGKILL a third of the way and comes back at two thirds. Clients
leave before the answer, in the middle of it, or stay. The gateway's own count of outcomes must add
up to the requests that were sent; every number printed was counted, none is asserted but that law
and that the gateway lives.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import orjson
from common import show
from gateway import BODY, FLEET, PARTS, PATH, port_of, process, resident_mb

BEFORE_ACCEPTED = ("told fair_share", "no connection")
"""What a client may hear before its request is one that the gateway answers for. A crowded gateway
says fair_share at its door."""

STAY, LEAVE_EARLY, LEAVE_IN_THE_MIDDLE = "stay", "leave before the answer", "leave in the middle"


def fleet_text(urls: list[str]) -> str:
    text = FLEET.replace("count: 1", "count: 4").format(upstream=urls[0])
    return text.replace(f'endpoints: ["{urls[0]}"]', f"count: {len(urls)}, endpoints: "
                        + orjson.dumps(urls).decode())


async def client(address: tuple[str, int], plan: str, wait_s: float, heard: Counter) -> None:
    """One request as planned; what was heard is counted."""
    body = orjson.dumps(BODY)
    try:
        reader, writer = await asyncio.open_connection(*address)
    except OSError:
        heard["no connection"] += 1
        return
    try:
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                     % (PATH.encode(), len(body), body))
        if plan == LEAVE_EARLY:
            await asyncio.sleep(wait_s)
            writer.transport.abort()
            heard["left early"] += 1
            return
        if plan == LEAVE_IN_THE_MIDDLE:
            await asyncio.wait_for(reader.readuntil(b"data: "), 60)
            writer.transport.abort()
            heard["left in the middle"] += 1
            return
        answer = await asyncio.wait_for(reader.read(-1), 60)
        status = answer[9:12].decode()
        if status == "200":
            is_whole = b"[DONE]" in answer and b'"error"' not in answer
            status = "whole answer" if is_whole else "told it broke off"
        elif code := re.search(rb'"code":"(\w+)"', answer):
            status = f"told {code[1].decode()}"
        heard[status if status else "connection closed"] += 1
    except asyncio.IncompleteReadError as error:
        code = re.search(rb'"code":"(\w+)"', error.partial)
        heard[f"told {code[1].decode()}" if code else "closed without a word"] += 1
    except ConnectionError:
        heard["reset"] += 1
    except TimeoutError:
        heard["nothing for 60 s"] += 1
    finally:
        writer.close()


def outcomes(url: str) -> Counter:
    text = urllib.request.urlopen(f"{url}/metrics", timeout=30).read().decode()
    found: Counter = Counter()
    for outcome, value in re.findall(r'penstock:requests_total\{.*outcome="(\w+)".*\} (\S+)', text):
        found[outcome] += int(float(value))
    return +found


def status(url: str) -> dict:
    return orjson.loads(urllib.request.urlopen(f"{url}/v1/penstock/status", timeout=30).read())


async def storm(url: str, num: int, seed: int, kill, revive) -> Counter:
    """All requests, 100 at a time."""
    chance, heard = random.Random(seed), Counter()
    host, port = url.removeprefix("http://").split(":")
    gate = asyncio.Semaphore(100)

    async def one() -> None:
        plan = chance.choices((STAY, LEAVE_EARLY, LEAVE_IN_THE_MIDDLE), (5, 3, 2))[0]
        try:
            await client((host, int(port)), plan, chance.choice((0.0, 0.005, 0.05)), heard)
        finally:
            gate.release()

    tasks = set()
    for number in range(num):
        await gate.acquire()
        if number == num // 3:
            kill()
        if number == 2 * num // 3:
            revive()
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return heard


async def leave(url: str, num: int) -> Counter:
    """Clients that connect, ask and leave at the first byte, 200 at a time."""
    address, gate = url.removeprefix("http://").split(":"), asyncio.Semaphore(200)
    heard: Counter = Counter()

    async def one() -> None:
        async with gate:
            await client((address[0], int(address[1])), LEAVE_IN_THE_MIDDLE, 0.0, heard)

    await asyncio.gather(*(one() for _ in range(num)))
    return heard


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        good = [stack.enter_context(process(sys.executable, PARTS, "upstream", "0.002"))
                for _ in range(2)]
        odd = [stack.enter_context(process(sys.executable, PARTS, "faulty", str(options.seed + i)))
               for i in range(2)]
        urls = [f"http://127.0.0.1:{port_of(one)}" for one in (*good, *odd)]
        fleet = Path(name) / "benchmark.yaml"
        fleet.write_text(fleet_text(urls))
        front = stack.enter_context(process(
            sys.executable, "-m", "penstock", "serve", str(fleet), "--port", "0",
            "--max-in-flight", "80"))
        url = f"http://127.0.0.1:{port_of(front)}"
        before_mb = resident_mb(front.pid)

        def revive() -> None:
            port = urls[0].rpartition(":")[2]
            stack.enter_context(process(sys.executable, PARTS, "upstream", "0.002", port))

        heard = asyncio.run(storm(url, options.requests, options.seed, good[0].kill, revive))
        seen, counted = status(url), outcomes(url)
        left = asyncio.run(leave(url, options.requests))
        both = heard + left
        after, in_all = status(url), outcomes(url)
        injected = Counter()
        for one in urls[2:]:
            injected.update(orjson.loads(urllib.request.urlopen(f"{one}/counts").read()))
        show({
            "requests": options.requests, "clients": dict(heard), "gateway": dict(counted),
            "engines_injected": dict(injected),
            "served_failed_by_engine": [(e["num_served"], e["num_failed"])
                                        for e in seen["engines"]],
            "then_clients_who_leave": dict(left), "gateway_in_all": dict(in_all),
            "without_outcome": 2 * options.requests - in_all.total()
            - sum(both[told] for told in BEFORE_ACCEPTED),
            "left_in_flight": sum(e["num_in_flight"] for e in after["engines"]),
            "lives": front.poll() is None, "memory_mb": [before_mb, resident_mb(front.pid)]})
        if front.poll() is not None or in_all.total() > 2 * options.requests:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
