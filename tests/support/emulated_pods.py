"""Emulated engines on the loopback in the place of a real cluster's pods: each ready pod has one,
requests go to them, and a Prometheus server has their series."""

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager, suppress

from prometheus_client.parser import text_string_to_metric_families

from support import kube_clients

EVERY_S = 0.5


@asynccontextmanager
async def emulated(fleet_file):
    """Yield the URLs of the replicas of a fleet file, which a process of its own emulates."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock", "emulate", str(fleet_file), "--port", "0", "--json",
        stdout=asyncio.subprocess.PIPE)
    try:
        lines = [await process.stdout.readline()]
        while lines[-1] not in (b"}\n", b""):
            lines.append(await process.stdout.readline())
        yield [one["url"] for one in json.loads(b"".join(lines))["replicas"]]
    finally:
        process.terminate()
        await process.wait()


class EmulatedPods:
    """Engines of the ready pods of a namespace."""

    def __init__(self, one, prometheus, urls, session):
        self._one, self._prometheus, self._session = one, prometheus, session
        self._free, self._urls, self._running = list(urls), {}, dict.fromkeys(urls, 0)
        self.answered = self.missed = 0

    @asynccontextmanager
    async def followed(self):
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self):
        while True:
            pods = [pod async for pod in self._one.there.list(
                kube_clients.POD, namespace=self._one.namespace)]
            ready = {pod["metadata"]["name"] for pod in pods
                     if pod["status"].get("phase") == "Running"
                     and "deletionTimestamp" not in pod["metadata"]}
            for name in [name for name in self._urls if name not in ready]:
                self._free.append(self._urls.pop(name))
            for name in sorted(ready - self._urls.keys()):
                if self._free:
                    self._urls[name] = self._free.pop(0)
            self._prometheus.engines = [sample for name, url in sorted(self._urls.items())
                                        for sample in await self._series(name, url)]
            await asyncio.sleep(EVERY_S)

    async def _series(self, name, url):
        async with self._session.get(f"{url}/metrics") as answer:
            text = await answer.text()
        at_s = self._prometheus.clock()
        return [{"metric": {**sample.labels, "__name__": sample.name, "pod": name,
                            "instance": url}, "values": [[at_s, str(sample.value)]]}
                for family in text_string_to_metric_families(text) for sample in family.samples]

    async def send(self, workload):
        """Send the requests of a workload when they arrive, each to the pod with the fewest."""
        begun_s, work = time.monotonic(), []
        for at_s, prompt, output in zip(workload.arrival_s, workload.prompt_tokens,
                                        workload.output_tokens, strict=True):
            await asyncio.sleep(max(0.0, begun_s + float(at_s) - time.monotonic()))
            work.append(asyncio.create_task(self._ask(int(prompt), int(output))))
        await asyncio.gather(*work)

    async def _ask(self, prompt, output):
        while not self._urls:
            await asyncio.sleep(0.1)
        url = min(self._urls.values(), key=lambda url: self._running[url])
        self._running[url] += 1
        body = {"prompt": [1] * prompt, "max_tokens": output, "ignore_eos": True}
        try:
            async with self._session.post(f"{url}/v1/completions", json=body) as answer:
                await answer.read()
            self.answered += answer.status == 200
            self.missed += answer.status != 200
        finally:
            self._running[url] -= 1
