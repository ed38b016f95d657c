"""Inferno's walkthrough before a real API server, with Penstock in the place of Inferno's pods."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from penstock.published.inferno.cluster.labels import load_labels
from penstock.published.inferno.emulated_load import Walk, next_load
from penstock.published.inferno.loop.cycles import read_cycles
from penstock.published.inferno.operations import optimize_one
from penstock.published.inferno.read import read_bundle
from penstock.published.inferno.solve import settings_of, solve
from penstock.published.inferno.values import Load
from support import kube_api_server
from support.inferno_bundles import FILES
from support.inferno_cluster import PREFIX, STATIC, config_maps, deployment, server_labels

pytestmark = pytest.mark.long
PENSTOCK = [sys.executable, "-m", "penstock"]
DEPLOYMENTS = "/apis/apps/v1/namespaces/infer/deployments"
SERVERS = (("premium-llama-13b", "vllm-001", "llama_13b", "Premium", "MI250", 4, (30, 128, 1024)),
           ("bronze-granite-13b", "vllm-002", "granite_13b", "Bronze", "H100", 3, (60, 512, 512)),
           ("free-mixtral-8-7b", "vllm-003", "mixtral_8_7b", "Free", "MI300X", 3, (90, 256, 512)))
"""Name, server, model, class, accelerator, replicas and load of the walkthrough's Deployments."""


@pytest.fixture(scope="module")
def data(shared_data):
    return shared_data / "inferno"


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/howto/inferno-on-kubernetes.md").read_text()


@contextmanager
def started(folder, *, controllers):
    try:
        with kube_api_server.api_server(folder, controllers=controllers) as one:
            for name in ("inferno", "infer"):
                one.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            yield one
    except kube_api_server.AbsentError as reason:
        pytest.skip(str(reason))


def created(there, *documents):
    for one in documents:
        answer = there.apply(one, dry_run=False)
        assert answer.status < 300, answer.document


def bundle(folder):
    """The parts of a folder of data files, with the names that they have in a bundle."""
    return {part: json.loads((folder / name).read_text()) for part, name in FILES.items()}


def of_page(page, name):
    """The objects of a YAML file that the how-to shows."""
    text, = re.findall(rf"```yaml\n# file: {re.escape(name)}\n(.*?)```", page, re.DOTALL)
    return [*yaml.safe_load_all(text)]


class Loop:
    """A running ``penstock lab inferno control``."""

    def __init__(self, process, url):
        self.process, self.url = process, url

    def get(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url + path, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def invoke(self):
        status, document = self.get("/invoke")
        assert status == 200, document
        return document


@contextmanager
def control(there, folder, *options, account=None):
    """The loop as a process, with all rights or those of a service account."""
    kubeconfig, notes = there.kubeconfig, folder / "notes.txt"
    if account is not None:
        kubeconfig = folder / "account.yaml"
        kubeconfig.write_text(yaml.safe_dump(there.kubeconfig_of("inferno", account)))
    with notes.open("wb") as stream:
        process = subprocess.Popen([
            *PENSTOCK, "lab", "inferno", "control", "--kubeconfig", kubeconfig, "--namespace",
            "infer", "--port", "0", "--cycle-log", folder / "cycles.jsonl", *options],
            stderr=stream)
    try:
        yield Loop(process, address(process, notes))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, notes.read_text()


def address(process, notes):
    for _ in range(600):
        found = re.search(r"http://127\.0\.0\.1:\d+", notes.read_text())
        if found:
            return found[0]
        assert process.poll() is None, notes.read_text()
        time.sleep(0.1)
    raise AssertionError(notes.read_text())


def present(there):
    """Accelerator, batch and replicas of every server as the API server has them."""
    found = {}
    for one in there.ask("GET", DEPLOYMENTS).document["items"]:
        labels = one["metadata"]["labels"]
        found[labels[f"{PREFIX}name"]] = (
            labels[f"{PREFIX}allocation.accelerator"],
            int(labels[f"{PREFIX}allocation.maxbatchsize"]), one["spec"]["replicas"])
    return found


def answered(parts, rows):
    """What ``/optimizeOne`` answers on the ConfigMaps' data and on rows of the collector."""
    answer = optimize_one({"system": {**parts, "serverData": {"servers": rows}}})
    assert answer.status == 200, answer.document
    return {name: (one["accelerator"], one["maxBatch"], one["numReplicas"])
            for name, one in answer.document["allocations"].items()}


def rows_of_labels(there):
    """Rows of server-data made of the Deployments' labels alone."""
    rows = []
    for one in there.ask("GET", DEPLOYMENTS).document["items"]:
        label = {key.removeprefix(PREFIX): value
                 for key, value in one["metadata"]["labels"].items()}
        rows.append({
            "name": label["name"], "class": label["class"], "model": label["model"],
            "currentAlloc": {
                "accelerator": label["allocation.accelerator"],
                "numReplicas": one["spec"]["replicas"],
                "maxBatch": int(label["allocation.maxbatchsize"]),
                "load": {"arrivalRate": float(label["load.rpm"]),
                         "avgInTokens": int(label["load.intokens"]),
                         "avgOutTokens": int(label["load.outtokens"])}}})
    return rows


def walked(there, folder, *options):
    """A step of the load emulator."""
    subprocess.run([*PENSTOCK, "lab", "inferno", "load", "--kubeconfig", there.kubeconfig,
                    "--namespace", "infer", "--steps", "1", *options], check=True,
                   stderr=subprocess.DEVNULL, cwd=folder)


def test_the_steps_of_the_walkthrough(tmp_path, data, page):
    parts = bundle(data / "sample_v2" / "large")
    with started(tmp_path / "cluster", controllers=True) as there:
        created(there, *config_maps(parts), *of_page(page, "inferno-loop.yaml"))
        for name, server, model, kind, accelerator, replicas, load in SERVERS:
            created(there, deployment(name, server_labels(
                server, kind, model, accelerator, rpm=load[0], in_tokens=load[1],
                out_tokens=load[2]), replicas))
        with control(there, tmp_path, "--period", "0", account="inferno") as loop:
            expected = answered(parts, rows_of_labels(there))
            assert loop.get("/collect")[1]["servers"]
            first, start = loop.invoke(), present(there)
            assert start == expected
            assert (first["held"], first["problems"]) == ([], [])
            assert {one["name"]: one["currentAlloc"]["numReplicas"]
                    for one in first["servers"]} == {one[1]: one[5] for one in SERVERS}
            for one in first["servers"]:
                assert one["desiredAlloc"]["numReplicas"] == expected[one["name"]][2]

            before = {one["name"]: one["currentAlloc"]["load"] for one in first["servers"]}
            walked(there, tmp_path, "--seed", "7", "--alpha", "1", "--theta", "0")
            assert_walk(there, before)
            expected = answered(parts, rows_of_labels(there))
            loop.invoke()
            assert present(there) == expected != start

            odd = server_labels("odd", "Nobody", "llama_13b", "A100")
            created(there, deployment("odd", odd, 2))
            told = next(one for one in loop.invoke()["servers"] if one["name"] == "odd")
            assert "no service class 'Nobody'" in told["told"]
            assert present(there)["odd"] == ("A100", 8, 2)
            event, = (one for one in there.ask(
                "GET", "/api/v1/namespaces/infer/events").document["items"]
                if one["reason"] == "NoAllocation")
            assert event["involvedObject"]["name"] == "odd"
            assert_wrong_data(there, loop, parts)
        # The log has the servers with an allocation: those of the walkthrough.
        cycles = read_cycles(tmp_path / "cycles.jsonl")
        assert [len(one.servers) for one in cycles] == [3, 3, 3]


def assert_walk(there, before):
    """The labels are those of the published walk, in the order of the Deployments' names."""
    generator = np.random.default_rng(7)
    loads = {one[1]: Load(*one[6]) for one in SERVERS}
    for one in sorted(there.ask("GET", DEPLOYMENTS).document["items"],
                      key=lambda found: found["metadata"]["name"]):
        labels = one["metadata"]["labels"]
        nominal = loads[labels[f"{PREFIX}name"]]
        expected = load_labels(next_load(nominal, nominal, generator, Walk(0.0, 1.0)))
        assert {key: labels[key] for key in expected} == expected
        assert float(expected[f"{PREFIX}load.rpm"]) != before[labels[f"{PREFIX}name"]][
            "arrivalRate"]


def assert_wrong_data(there, loop, parts):
    """Wrong content of a ConfigMap is one line, and nothing changes."""
    before = present(there)
    _, dynamic = config_maps(parts)
    created(there, {**dynamic, "data": {"capacity-data.json": '{"counts": []}'}})
    status, document = loop.get("/invoke")
    assert status == 404
    assert ("ConfigMap inferno/inferno-dynamic-data: capacity-data.json: 'count' is missing; found "
            "'counts'") in str(document)
    assert present(there) == before


def test_the_published_trap_is_a_mode(tmp_path, data, page):
    parts = bundle(data / "sample_v2" / "small")
    with started(tmp_path / "cluster", controllers=False) as there:
        created(there, *config_maps(parts), *of_page(page, "server.yaml"))  # its MI250 is unknown
        created(there, deployment("odd", server_labels("odd", "Nobody", "llama_13b", "A100"), 2))
        with control(there, tmp_path, "--period", "0", "--unserved", "abort") as loop:
            assert loop.get("/invoke")[0] == 404
            assert present(there)["odd"] == ("A100", 8, 2)
        with control(there, tmp_path, "--period", "1", "--unserved", "zero"):
            for _ in range(200):
                if present(there)["odd"] == ("", 0, 0):
                    break
                time.sleep(0.1)
        assert present(there)["odd"] == ("", 0, 0)
        assert present(there)["vllm-001"][0] in {
            one["name"] for one in parts["acceleratorData"]["accelerators"]}


@pytest.mark.parametrize("sample", ["sample_v1/small", "sample_v1/large", "sample_v2/small",
                                    "sample_v2/large"])
def test_a_whole_sample_is_decided_as_optimize_one_decides_it(tmp_path, data, sample):
    folder = data / sample
    parts = bundle(folder)
    with started(tmp_path / "cluster", controllers=False) as there:
        created(there, *config_maps(parts))
        system = read_bundle(folder)
        for one in system.servers.values():
            labels = server_labels(one.name, one.service_class, one.model, "", 0,
                                   rpm=f"{one.load.arrival_per_min:g}",
                                   in_tokens=one.load.input_tokens,
                                   out_tokens=one.load.output_tokens)
            created(there, deployment(one.name.lower().replace("_", "-"), labels, 0))
        with control(there, tmp_path, "--period", "0") as loop:
            loop.invoke()
        found = present(there)
        plan = solve(system, settings_of(system.options))
        unserved = dict.fromkeys(plan.unserved, ("", 0, 0))
        assert found == {name: (one.accelerator, one.max_batch, one.num_replicas)
                         for name, one in plan.allocations.items()} | unserved


def test_a_folder_takes_the_place_of_the_config_maps(tmp_path, data):
    parts = bundle(data / "sample_v2" / "small")
    folder = tmp_path / "data"
    folder.mkdir()
    for part in (*STATIC, "capacityData"):
        (folder / FILES[part]).write_text(json.dumps(parts[part]))
    with started(tmp_path / "cluster", controllers=False) as there:
        created(there, deployment("a", server_labels("a", "Premium", "llama_13b", "A100")))
        with control(there, tmp_path, "--period", "0", "--data", folder) as loop:
            expected = answered(parts, rows_of_labels(there))
            loop.invoke()
            assert present(there) == expected
