"""The same traffic in simulation and on a real API server with emulated engines as pods."""

import asyncio
import json
import time
from itertools import accumulate

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
START_S, LOADS = 4.0, ((1.0, 20.0), (14.0, 35.0), (4.8, 35.0))
"""Requests per second, and for how many seconds: at least two decisions of 15 s each."""
# Requests in an engine at once, 1, 20 and 6 against a target of 4, are at least a quarter away from
# where another number is due: a busy host delays answers, and a gauge is read at any moment of a
# step. Tokens are few and slow (a slow accelerator), as a busy host delays each by the same time.

CATALOG = """\
accelerators:
  slow: {memory_gib: 80, bandwidth_gb_per_s: 400, power_w: 300, price_per_hour: 1,
         pcie_gb_per_s: 32, link_gb_per_s: 300, peak_tflops: {fp16: 300, bf16: 300}, source: a test}
"""
FLEET = """\
name: chat
catalog: CATALOG
accelerators: [{name: slow, count: 8}]
models: [{name: qwen3-32b}]
service_classes: [{name: chat, slo: {e2e_s: 10}}]
traffic: [TRAFFIC]
replicas: [{count: 1, min_replicas: 1, max_replicas: 4}]
scaling: {start_s: 4, observe: {prometheus: "http://127.0.0.1:9"}}
policies: {schedule: sarathi, route: least_loaded, scale: {name: hpa, target: 4, down_window_s: 0}}
run: {beliefs: exact}
"""
TRAFFIC = ("{{lengths: {{prompt: {{fixed: 100}}, output: {{fixed: 6}}}}, arrivals: constant, "
           "rate_per_s: {rate}, "
           "duration_s: {for_s}, start_s: {from_s}}}")


def text_of(catalog):
    entries, from_s = [], 0.0
    for rate, for_s in LOADS:
        entries.append(TRAFFIC.format(rate=rate, for_s=for_s, from_s=from_s))
        from_s += for_s
    return FLEET.replace("TRAFFIC", ", ".join(entries)).replace("CATALOG", str(catalog))


def in_cluster(url):
    """The Fleet of the cluster: the controller need not know how slow the engines are."""
    return text_of("").replace("catalog: \n", "").replace("name: slow", "name: a100-80gb").replace(
        "http://127.0.0.1:9", url).replace(
        "max_replicas: 4", f"max_replicas: 4, {cluster.CREATE}") + "engine: {name: vllm}\n"


def simulated(catalog):
    """The workload, and the numbers that the simulated scaler ordered with their times."""
    fleet = parse_fleet(text_of(catalog), "chat")
    workload = fleet_workload(fleet, 0)
    run = run_fleet(fleet, workload, 0)
    return workload, [(one.at_s, one.target) for one in run.summary.scaling.changes]


def settled(trajectory):
    """The number at the end of each load.

    A decision in the midst of a change of load may see half of the change, and when a controller
    decides is for the host to say.
    """
    ends_s = accumulate(for_s for _, for_s in LOADS)
    return [[number for at_s, number in trajectory if at_s < end_s][-1] for end_s in ends_s]


async def observed(one, begun_s, found):
    while True:
        number, _ = await one.replicas()
        if number is not None and found[-1:] != [number]:
            at_s = time.monotonic() - begun_s
            if not found or found[-1][1] != number:
                found.append((max(at_s, 0.0) if found else 0.0, number))
        await asyncio.sleep(0.2)


def test_replicas_follow_the_load_as_in_simulation(kubeconfig, tmp_path):
    catalog = tmp_path / "slow.yaml"
    catalog.write_text(CATALOG)
    workload, expected = simulated(catalog)

    async def work():
        prometheus = FakePrometheus()
        engines = tmp_path / "engines.yaml"
        spec = yaml.safe_load(text_of(catalog))
        del spec["scaling"], spec["policies"]["scale"]
        engines.write_text(json.dumps({**spec, "replicas": [{"count": 4}]}))
        async with prometheus.server() as url, emulated(engines) as urls, \
                aiohttp.ClientSession() as session, \
                in_namespace(kubeconfig, tmp_path, START_S) as one, one.controller():
            pods = EmulatedPods(one, prometheus, urls, session)
            async with pods.followed():
                await one.put(in_cluster(url))
                await one.until(one.replicas, (1, 1))
                await one.until(lambda: one.condition("Scaling"), ("True", "Deciding"))
                found = []
                watching = asyncio.create_task(observed(one, time.monotonic(), found))
                await pods.send(workload)
                watching.cancel()
                assert pods.missed == 0
        return found

    found = asyncio.run(work())
    assert settled(found) == settled(expected) == [1, 4, 2], (expected, found)
    assert max(number for _, number in found) == max(number for _, number in expected)
