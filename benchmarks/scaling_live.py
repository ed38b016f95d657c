"""Fault schedules against live scaled fleets: does a request get lost, or a fleet shrink blindly?

    python benchmarks/scaling_live.py 60 --seed 1           # cases, 25 to 70 s each
    python benchmarks/scaling_live.py 200 --at-once 6       # so many fleets side by side

A case is one ``penstock serve`` that starts emulated engines, a crowd of five times the rate, and a
fault: engines are killed or stopped for a while, starts are slow or fail, the gateway is killed and
started again, or all of these. In the cases named ``dark``, the gateway observes engines through a
Prometheus server that goes missing, and orders by webhook. Judged are:

- every request has an answer, or an error with a reason; a connection breaks only where the gateway
  was killed;
- no decision asks for fewer replicas than the floor;
- no decision without metrics asks for fewer replicas than were ordered;
- a gateway that was killed finds the orders of the earlier one, and orders no fewer for a minute;
- requests that arrive from start-up time + 30 s after the crowd's growth on are in time, as far as
  the most replicas allow;
- an orderly exit leaves no engine behind.

Exit status 1 if a law was broken.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import web
from common import show
from live_faults import Process

from penstock.serving.scaling.loop import HISTORY_S

FLEET = """\
name: live
accelerators: [{{name: a100-80gb, count: 8}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{e2e_s: 3, percentile: 90}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 100}}, output: {{fixed: 64}}}}, rate_per_s: 1,
           num_requests: 60}}]
replicas: [{{count: {count}, min_replicas: {floor}, max_replicas: {most}{engine}}}]
engine: {{max_num_seqs: 2}}
scaling: {{start_s: {start_s}, hold_s: 20{scaling}}}
policies: {{schedule: sarathi, scale: {policy}}}
"""
KINDS = ("crowd", "engines die", "engines hang", "slow starts", "failed starts", "gateway dies",
         "all", "dark")
POLICIES = ("penstock", "penstock", "{name: kpa, target: 2}", "{name: hpa, target: 2}")
START_S, MOST, LATE_S, PATIENCE_S = 5.0, 8, 3.0, 45.0
FEWEST_JUDGED = 20
BODY = {"prompt": [1] * 100, "max_tokens": 64, "ignore_eos": True}


def engines_of(folder):
    """Process ids of the engines that were started in a folder, with their start times."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes()
                if b"emulate" in words and str(folder).encode() + b"/" in words:
                    found[int(entry.name)] = (entry / "stat").read_text().rsplit(")", 1)[1].split(
                        )[19]
    return found


async def is_ready(process, session):
    """Wait until a process answers. Raises RuntimeError where it does not."""
    try:
        await process.ready(session)
    except SystemExit as error:  # would end the event loop
        raise RuntimeError(str(error)) from None


def sweep(folder):
    """Kill every process that works in a folder of this script's own."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                send(int(entry.name), signal.SIGKILL)


def send(pid, number):
    """Signal a process, which may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Load:
    """Requests of one case, and what became of each."""

    def __init__(self, case, session):
        self.case, self.session = case, session
        self.sent, self.heard, self.late = 0, Counter(), []
        self.broken = []

    async def one(self):
        """Send a request, and judge its end."""
        self.sent += 1
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S), self.session.post(
                    f"{self.case.gateway.url}/v1/completions", json=BODY) as answer:
                document = await answer.json()
            if answer.status == 200:
                whole = document["usage"]["completion_tokens"] == BODY["max_tokens"]
                code = "answered" if whole else "cut off"
            else:
                code = document["error"]["code"]
        except TimeoutError:
            code = "nothing"
        except (aiohttp.ClientError, OSError):
            code = "gateway was dead" if self.case.was_dead_since(begun_s) else "broken off"
        except (ValueError, KeyError, TypeError):
            code = "no reason"
        self.heard[code] += 1
        if code in ("nothing", "broken off", "no reason", "cut off"):
            self.broken.append(f"a request got {code!r}")
        in_time = code == "answered" and time.monotonic() - begun_s <= LATE_S
        self.late.append((begun_s, not in_time))

    async def run(self, rate_of, until_s):
        """Send requests at a rate that changes with time, and wait for all ends."""
        work = []
        while (now_s := time.monotonic()) < until_s:
            work.append(asyncio.create_task(self.one()))
            await asyncio.sleep(self.case.rng.expovariate(rate_of(now_s)))
        await asyncio.gather(*work)


class Case:
    """One fleet with its faults."""

    def __init__(self, number, seed, kind, folder):
        self.rng = random.Random(f"{seed}-{number}")
        self.number, self.folder = number, folder
        self.kind = kind
        self.policy = "penstock" if self.kind == "crowd" else self.rng.choice(POLICIES)
        self.floor = self.rng.choice((0, 1, 1, 2))
        self.rate = self.rng.choice((0.8, 1.2))
        self.broken, self.faults, self.deaths, self.judged = [], Counter(), [], None
        self.faulty_s = 0.0  # time that faults add to the start-up of replicas
        self.attainment = None

    @property
    def watches_recovery(self):
        """Whether the requests after the crowd are judged, too."""
        return self.policy == "penstock" and self.kind in ("crowd", "slow starts", "failed starts",
                                                           "gateway dies")

    def write(self, **more):
        """Write the fleet file."""
        (self.folder / "fleet.yaml").write_text(FLEET.format(**{
            "count": max(1, self.floor), "floor": self.floor, "most": MOST, "start_s": START_S,
            "engine": ", engine: emulated", "scaling": "", "policy": self.policy, **more}))

    def was_dead_since(self, begun_s):
        """Whether the gateway was killed, or not back, since a time."""
        return any(back_s is None or back_s >= begun_s for _, back_s in self.deaths)

    async def run(self, session):
        """Run the case, judge it, and end its processes."""
        self.write()
        self.gateway = Process(self.folder, "serve", "fleet.yaml")
        self.gateway.start()
        try:
            await is_ready(self.gateway, session)
            await self.crowd(session)
            await self.end()
        finally:
            await self.clean()
        self.judge_record()

    async def crowd(self, session):
        """Load the fleet for a while, then with a crowd, and do harm meanwhile."""
        begun_s = time.monotonic()
        full_s = begun_s + 10.0
        growth_s = 6.0  # 30 s at a fifth of the time, like the rest
        tail_s = START_S + 30.0 + 15.0 if self.watches_recovery else 10.0

        def rate_of(now_s):
            grown = min(1.0, max(0.0, (now_s - full_s + growth_s) / growth_s))
            return self.rate * (1.0 + 4.0 * grown)

        self.load = Load(self, session)
        harm = asyncio.create_task(self.harm(session))
        await self.load.run(rate_of, full_s + tail_s)
        await harm
        self.broken += self.load.broken
        if sum(self.load.heard.values()) != self.load.sent:
            self.broken.append(f"{self.load.sent} were sent, {self.load.heard} came back")
        if self.watches_recovery:
            self.judge_recovery(full_s + START_S + self.faulty_s + 30.0)

    # -- faults -----------------------------------------------------------------------------------

    async def harm(self, session):
        """Do harm, and mend it."""
        rng, kinds = self.rng, [self.kind] if self.kind != "all" else KINDS[1:6]
        work = [asyncio.create_task(self.spoil_starts(kind, 18.0)) for kind in kinds
                if kind in ("slow starts", "failed starts")]
        for _ in range(2 if self.kind == "all" else 1):
            await asyncio.sleep(rng.uniform(2.0, 16.0))
            kind = rng.choice(kinds)
            if kind == "engines die":
                self.hurt(signal.SIGKILL)
            elif kind == "engines hang":
                hung = self.hurt(signal.SIGSTOP)
                await asyncio.sleep(rng.choice((1.0, 4.0, 12.0)))
                for pid in hung:
                    send(pid, signal.SIGCONT)
            elif kind == "gateway dies":
                await self.kill_gateway(session)
        await asyncio.gather(*work)

    def hurt(self, number):
        """Signal one engine or all engines of the fleet."""
        pids = list(engines_of(self.folder))
        chosen = pids if self.rng.random() < 0.3 else self.rng.sample(pids, min(1, len(pids)))
        for pid in chosen:
            send(pid, number)
            self.faults[signal.Signals(number).name] += 1
        return chosen

    async def spoil_starts(self, kind, for_s):
        """Stop or kill some engines in the moment in which they begin to start."""
        known, until_s, held = set(engines_of(self.folder)), time.monotonic() + for_s, []
        while time.monotonic() < until_s:
            for pid in set(engines_of(self.folder)) - known:
                known.add(pid)
                if self.rng.random() < 0.5:
                    continue
                self.faults[kind] += 1
                if kind == "failed starts":
                    send(pid, signal.SIGKILL)
                else:
                    send(pid, signal.SIGSTOP)
                    held.append((time.monotonic() + self.rng.uniform(2.0, 6.0), pid))
            while held and held[0][0] <= time.monotonic():
                send(held.pop(0)[1], signal.SIGCONT)
            held.sort()
            await asyncio.sleep(0.1)
        for _, pid in held:
            send(pid, signal.SIGCONT)
        self.faulty_s += 6.0

    async def kill_gateway(self, session):
        """Kill the gateway, and start it again after a moment."""
        self.faults["gateway dies"] += 1
        dead_s = time.monotonic()
        self.deaths.append((dead_s, None))
        await self.gateway.end()
        await asyncio.sleep(self.rng.choice((0.0, 0.3, 1.5)))
        self.gateway.start()
        await is_ready(self.gateway, session)
        self.deaths[-1] = (dead_s, time.monotonic())
        self.faulty_s += time.monotonic() - dead_s

    # -- the end ----------------------------------------------------------------------------------

    async def end(self):
        """End the gateway in order; its engines end with it."""
        self.gateway.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.to_thread(self.gateway.process.wait, 40), 45)
        except Exception:
            self.broken.append("the gateway does not end")
            return
        if self.gateway.process.returncode != 0:
            self.broken.append(f"the gateway ends with {self.gateway.process.returncode}: "
                               f"{self.gateway.log.read_text()[-500:]}")
        if left := engines_of(self.folder):
            self.broken.append(f"{len(left)} engines are left")

    async def clean(self):
        """Kill what this case has started."""
        await self.gateway.end()
        for pid, started in engines_of(self.folder).items():
            if engines_of(self.folder).get(pid) == started:
                send(pid, signal.SIGKILL)

    def judge_recovery(self, from_s):
        """Judge the requests after the crowd's replicas should serve."""
        late = [late for begun_s, late in self.load.late if begun_s >= from_s]
        peak = max((max(line["targets"]) for line in self.lines() if "groups" in line), default=0)
        if len(late) < FEWEST_JUDGED or peak >= MOST:
            return
        self.attainment = 1.0 - sum(late) / len(late)
        if self.attainment < 0.9:
            self.broken.append(f"{self.attainment:.0%} in time after the crowd")

    def lines(self):
        """Lines of the record."""
        record = self.folder / "fleet.engines" / "scaling.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()] \
            if record.exists() else []

    def judge_record(self):
        """Judge every decision that was recorded."""
        ordered, first = None, None
        for line in self.lines():
            if "groups" not in line:
                first = None
                continue
            group, target = line["groups"][0], line["targets"][0]
            if first is None:
                first = group["target"]
                if ordered is not None and first < ordered:
                    self.broken.append(f"{ordered} were ordered, the next gateway finds {first}")
                self.restarted = ordered is not None
            if target < self.floor:
                self.broken.append(f"{target} ordered, below the floor of {self.floor}")
            blind = line["demand"] is None or any(
                state == "ready" and gauges is None
                for _, state, _, _, _, gauges in group["replicas"])
            if blind and target < group["target"]:
                self.broken.append(f"from {group['target']} to {target} without metrics")
            if self.restarted and line["at_s"] < HISTORY_S and target < first:
                self.broken.append(f"from {first} to {target} after a restart")
            ordered = target


class Dark(Case):
    """A fleet behind a Prometheus server, which goes missing in several ways."""

    async def run(self, session):
        """Run engines, the server, the receiver of orders and the gateway."""
        self.posted, self.is_dark, self.floor = [], None, max(1, self.floor)
        (self.folder / "own").mkdir()
        self.write()
        (self.folder / "fleet.yaml").rename(self.folder / "own" / "engine.yaml")
        engine = self.folder / "own" / "engine.yaml"
        engine.write_text(engine.read_text().replace(", engine: emulated", "").replace(
            self.policy, "none").replace(f"min_replicas: {self.floor}, max_replicas: {MOST}", ""
                                         ).replace(f"count: {max(1, self.floor)}", "count: 1"))
        self.engines = [Process(self.folder, "emulate", str(engine)) for _ in range(3)]
        app = web.Application()
        app.router.add_get("/api/v1/query", self.query)
        app.router.add_post("/scale", self.receive)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.write(count=3, engine=", endpoints: " + json.dumps([one.url for one in self.engines]),
                   scaling=f', webhook: "{url}/scale", observe: {{prometheus: "{url}", '
                           "stale_s: 5}")
        self.gateway = Process(self.folder, "serve", "fleet.yaml")
        self.session = session
        for one in (*self.engines, self.gateway):
            one.start()
        try:
            await asyncio.gather(*(is_ready(one, session) for one in self.engines))
            await is_ready(self.gateway, session)
            await self.crowd(session)
            await self.end()
        finally:
            for one in self.engines:
                await one.end()
            await self.clean()
            await runner.cleanup()
        self.judge_record()

    async def end(self):
        """End the engines first, which are not the gateway's."""
        for one in self.engines:
            await one.end()
        await super().end()

    async def harm(self, session):
        """Let metrics go missing twice, and kill the gateway sometimes."""
        for _ in range(2):
            await asyncio.sleep(self.rng.uniform(1.0, 5.0))
            self.is_dark = self.rng.choice(("error", "silent", "empty", "garbage"))
            self.faults[f"metrics: {self.is_dark}"] += 1
            if self.rng.random() < 0.3:
                await self.kill_gateway(session)
            await asyncio.sleep(self.rng.uniform(3.0, 8.0))
            self.is_dark = None

    async def receive(self, request):
        """Take an order."""
        self.posted.append((await request.json())["replicas"])
        if self.posted[-1] < self.floor:
            self.broken.append(f"{self.posted[-1]} posted, below the floor of {self.floor}")
        return web.Response()

    async def query(self, request):
        """Answer as Prometheus does from the engines' metrics, or badly while it is dark."""
        if self.is_dark == "silent":
            await asyncio.sleep(30.0)
        if self.is_dark in ("error", "garbage"):
            return web.Response(status=503 if self.is_dark == "error" else 200, text="<html>")
        query, now_s = request.query["query"], time.time()
        kind, result = "matrix", []
        if query == "time()":
            kind, result = "scalar", [now_s, str(now_s)]
        elif query.startswith("up"):
            kind = "vector"
        elif self.is_dark != "empty":
            for one in self.engines:
                with suppress(aiohttp.ClientError):  # an engine that has ended has no series
                    async with self.session.get(f"{one.url}/metrics") as answer:
                        result += series(await answer.text(), one.url, now_s)
        return web.json_response({"status": "success",
                                  "data": {"resultType": kind, "result": result}})


def series(text, url, now_s):
    """Series of an engine's metrics, as a range of one sample each."""
    from prometheus_client.parser import text_string_to_metric_families

    return [{"metric": {**sample.labels, "__name__": sample.name, "pod": url, "instance": url},
             "values": [[now_s, str(sample.value)]]}
            for family in text_string_to_metric_families(text) for sample in family.samples]


async def run(options, folder):
    """Run all cases, so many at once, and return what was counted."""
    begun_s, turns = time.monotonic(), asyncio.Semaphore(options.at_once)
    cases = []
    for number in range(options.first, options.first + options.cases):
        own = folder / str(number)
        own.mkdir()
        kind = options.kind or KINDS[number % len(KINDS)]
        cases.append((Dark if kind == "dark" else Case)(number, options.seed, kind, own))
    num_done = 0

    async def one(case):
        nonlocal num_done
        async with turns:
            try:
                async with asyncio.timeout(240):
                    await case.run(session)
            except Exception as error:
                case.broken.append(f"the case ended with {type(error).__name__}: {error}"[:2000])
            num_done += 1
            for text in case.broken:
                print(f"case {case.number} ({case.kind}, {case.policy}): {text}", file=sys.stderr)
            if case.broken and options.keep:
                shutil.copytree(case.folder, options.keep / str(case.number), dirs_exist_ok=True)
            if num_done % 10 == 0:
                print(f"{num_done} cases, {time.monotonic() - begun_s:.0f} s", file=sys.stderr,
                      flush=True)

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*map(one, cases))
    heard, faults = Counter(), Counter()
    for case in cases:
        heard += case.load.heard if hasattr(case, "load") else Counter()
        faults += case.faults
    judged = [case.attainment for case in cases if case.attainment is not None]
    return {"cases": len(cases), "kinds": dict(Counter(case.kind for case in cases)),
            "wall_s": round(time.monotonic() - begun_s), "heard": dict(heard),
            "faults": dict(faults), "judged_after_the_crowd": len(judged),
            "attainment_after_the_crowd": round(sum(judged) / max(1, len(judged)), 4),
            "broken": [f"case {case.number} ({case.kind}): {text}"
                       for case in cases for text in case.broken]}


def main():
    """Run the cases and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("cases", type=int, nargs="?", default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--kind", choices=KINDS, help="cases of this kind alone")
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that broke a law")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            found = asyncio.run(run(options, Path(name)))
        finally:  # an interrupt cancels the cases' own ends
            sweep(Path(name).resolve())
    show(found)
    sys.exit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
