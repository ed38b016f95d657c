"""The same traffic in simulation and on a real API server with emulated engines as pods."""

import asyncio
import json
import time

import aiohttp
import pytest
import yaml

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from support import cluster_objects as cluster
from support.emulated_pods import EmulatedPods, emulated
from support.fake_prometheus import FakePrometheus
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long
INTERVAL_S, START_S, LEVELS = 15.0, 4.0, ((1.0, 20.0), (10.0, 35.0), (4.0, 35.0))
# The loads are away from the policy's thresholds: the trajectory is the same for 34 to 52 output
# tokens. Tokens are few and slow, as fast ones come late on a busy host.
SLACK_S = 3.0
"""What comes on top of an interval: a scrape, the controller's look, and the API server."""

FLEET = """\
name: chat
accelerators: [{name: a100-80gb, count: 8}]
models: [{name: qwen3-32b}]
service_classes: [{name: chat, slo: {e2e_s: 10}}]
traffic: [TRAFFIC]
engine: {name: vllm}
replicas: [{count: 1, min_replicas: 1, max_replicas: 4KUBERNETES}]
scaling: {start_s: 4, observe: {prometheus: "URL"}}
policies: {schedule: sarathi, scale: {name: hpa, target: 4, down_window_s: 0}}
run: {beliefs: exact}
"""
TRAFFIC = ("{{lengths: {{prompt: {{fixed: 100}}, output: {{fixed: 42}}}}, arrivals: constant, "
           "rate_per_s: {rate}, "
           "duration_s: {for_s}, start_s: {from_s}}}")


def text_of(url="http://127.0.0.1:9", kubernetes=""):
    entries, from_s = [], 0.0
    for rate, for_s in LEVELS:
        entries.append(TRAFFIC.format(rate=rate, for_s=for_s, from_s=from_s))
        from_s += for_s
    return FLEET.replace("TRAFFIC", ", ".join(entries)).replace("URL", url).replace(
        "KUBERNETES", kubernetes and f", {kubernetes}")


def simulated():
    """The workload, and the numbers that the simulated scaler ordered with their times."""
    fleet = parse_fleet(text_of(), "chat")
    workload = fleet_workload(fleet, 0)
    run = run_fleet(fleet, workload, 0)
    return workload, [(one.at_s, one.target) for one in run.summary.scaling.changes]


def at(trajectory, moment_s):
    """The number at a moment."""
    return [number for at_s, number in trajectory if at_s <= max(moment_s, 0.0)][-1]


def nearby(trajectory, moment_s, within_s):
    """All numbers around a moment."""
    return {at(trajectory, moment_s - within_s), *(
        number for at_s, number in trajectory if abs(at_s - moment_s) <= within_s)}


def disagreements(one, other, until_s, within_s):
    """Moments at which one has a number that the other has at no moment nearby."""
    return [moment_s for moment_s in range(int(until_s))
            if at(one, moment_s) not in nearby(other, moment_s, within_s)]


def lag_s(one, other, until_s):
    """The least time within which two trajectories agree."""
    return next((within_s for within_s in range(int(until_s)) if not (
        disagreements(one, other, until_s, within_s)
        or disagreements(other, one, until_s, within_s))), until_s)


async def observed(one, begun_s, found):
    while True:
        number, _ = await one.replicas()
        if number is not None and found[-1:] != [number]:
            at_s = time.monotonic() - begun_s
            if not found or found[-1][1] != number:
                found.append((max(at_s, 0.0) if found else 0.0, number))
        await asyncio.sleep(0.2)


def test_replicas_follow_the_load_as_in_simulation(kubeconfig, tmp_path):
    workload, expected = simulated()
    until_s = sum(for_s for _, for_s in LEVELS)

    async def work():
        prometheus = FakePrometheus()
        engines = tmp_path / "engines.yaml"
        spec = yaml.safe_load(text_of())
        del spec["scaling"], spec["policies"]["scale"], spec["engine"]
        engines.write_text(json.dumps({**spec, "replicas": [{"count": 4}]}))
        async with prometheus.server() as url, emulated(engines) as urls, \
                aiohttp.ClientSession() as session, \
                in_namespace(kubeconfig, tmp_path, START_S) as one, one.controller():
            pods = EmulatedPods(one, prometheus, urls, session)
            async with pods.followed():
                await one.put(text_of(url, cluster.CREATE))
                await one.until(one.replicas, (1, 1))
                await one.until(lambda: one.condition("Scaling"), ("True", "Deciding"))
                found = []
                watching = asyncio.create_task(observed(one, time.monotonic(), found))
                await pods.send(workload)
                watching.cancel()
                assert pods.missed == 0
        return found

    found = asyncio.run(work())
    lag = lag_s(expected, found, until_s)
    print(f"simulated {expected}\ncluster   {found}\nagree within {lag} s, "
          f"a decision is made every {INTERVAL_S:g} s")
    assert lag <= INTERVAL_S + SLACK_S, (expected, found)
    assert max(number for _, number in found) == max(number for _, number in expected) > 1
