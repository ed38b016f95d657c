"""The load emulator on a cluster in memory, and its phases."""

import asyncio

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.emulator import LoadEmulator
from penstock.published.inferno.cluster.labels import load_labels, managed
from penstock.published.inferno.cluster.phases import read_phases
from penstock.published.inferno.emulated_load import Phase, Walk, next_load
from penstock.published.inferno.values import Load
from penstock.serving.kubernetes.api import ClusterError
from support.cluster_objects import pod
from support.fake_cluster import FakeCluster
from support.inferno_cluster import PREFIX, deployment, put, server_labels


class Kept:
    """An emulator with a seed, on a cluster with some Deployments."""

    def __init__(self, *documents, walk=None, phases=()):
        self.there, self.notes, self.now_s = FakeCluster(), [], 0.0
        put(self.there, *documents)
        self.emulator = LoadEmulator(self.there, np.random.default_rng(7), walk or Walk(), phases,
                                     lambda: self.now_s, self.notes.append)

    def step(self):
        return asyncio.run(self.emulator.step())

    def load(self, name="a"):
        return managed(self.there.of("Deployment")[name]).load

    def labels(self, kind="Deployment", name="a"):
        found = self.there.of(kind)[name]["metadata"]["labels"]
        return {key: value for key, value in found.items() if key in load_labels(Load())}


def test_labels_follow_the_published_walk():
    kept = Kept(deployment("a", server_labels("one")))
    generator, load, nominal = np.random.default_rng(7), Load(60.0, 128, 1024), Load(
        60.0, 128, 1024)
    for _ in range(5):
        load = next_load(load, nominal, generator, Walk())
        assert kept.step() == 1
        assert kept.labels() == load_labels(load)
        load = kept.load()  # as rounded in the label
    assert kept.load() != nominal


def test_phases_move_the_nominal_rate():
    kept = Kept(deployment("a", server_labels("one")), walk=Walk(theta=1.0, alpha=0.0),
                phases=(Phase(100.0, 3.0), Phase(0.0)))
    rates = []
    for kept.now_s in (0.0, 50.0, 100.0, 1000.0):
        kept.step()
        rates.append(kept.load().arrival_per_min)
    assert rates == [60.0, 120.0, 180.0, 180.0]


def test_pods_that_carry_labels_share_the_rate():
    kept = Kept(deployment("a", server_labels("one"), namespace="ns"))
    for number, labels in enumerate(({f"{PREFIX}model": "small"}, {f"{PREFIX}model": "small"}, {})):
        kept.there.put("Pod", pod(f"a-{number}", {"app": "a", **labels}))
    kept.step()
    rates = [float(kept.labels("Pod", f"a-{number}")[f"{PREFIX}load.rpm"]) for number in (0, 1)]
    assert sum(rates) == pytest.approx(kept.load().arrival_per_min, abs=1e-3)
    assert rates[0] != rates[1]
    assert kept.labels("Pod", "a-2") == {}


def test_a_deployment_without_nominal_load_stays_and_is_told_once():
    labels = {name: value for name, value in server_labels("one").items() if "nominal" not in name}
    kept = Kept(deployment("a", labels), deployment("b", server_labels("two")))
    assert (kept.step(), kept.step()) == (1, 1)
    assert kept.notes == ["Deployment infer/a: label inferno.server.load.nominal.rpm is missing; "
                          "its load stays"]
    assert kept.load() == Load(60.0, 128, 1024)


def test_a_load_that_is_not_stated_begins_at_the_nominal_one():
    labels = {name: value for name, value in server_labels("one").items()
              if not name.endswith(("load.rpm", "load.intokens", "load.outtokens"))}
    kept = Kept(deployment("a", labels), walk=Walk(alpha=0.0))
    kept.step()
    assert kept.load() == Load(60.0, 128, 1024)


def test_steps_are_counted_and_one_that_fails_is_told():
    kept = Kept(deployment("a", server_labels("one")))
    asyncio.run(kept.emulator.run(0.001, 2))
    assert kept.notes == ["1 Deployments have a new load"] * 2
    kept.there.failing = ClusterError("gone")
    asyncio.run(kept.emulator.run(0.001, 1))
    assert kept.notes[-1] == "step skipped: gone"


def test_phases_are_read_as_inferno_writes_them(tmp_path):
    path = tmp_path / "phases.yaml"
    path.write_text("phases:\n- {duration: 2m, ratio: 1.0}\n- {duration: 1m30s, ratio: 3}\n"
                    "- duration: 0s\n")
    assert read_phases(path) == (Phase(120.0, 1.0), Phase(90.0, 3.0), Phase(0.0, 1.0))


@pytest.mark.parametrize(("text", "words"), [
    ("phases: []", "phases: found none"),
    ("[]", "expected a mapping with phases"),
    ("phase: []", "is not supported; did you mean 'phases'?"),
    ("phases:\n- {duration: 2, ratio: 1}", "yaml:2: phases[0].duration: expected a duration such"),
    ("phases:\n- {duration: 2m, ratio: 0}", "ratio: found 0; expected more than 0"),
    ("phases:\n- {duration: 2m, ration: 2}", "(supported: duration, ratio)"),
    ("phases:\n- {duration: 0s}\n- {duration: 2m}", "holds for ever; expected it at the end")])
def test_wrong_phases_are_told_with_their_line(tmp_path, text, words):
    path = tmp_path / "phases.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_phases(path)
    assert words in str(caught.value)
