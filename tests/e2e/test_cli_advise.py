"""``penstock serve --advise``: decisions, metrics and a record, and nothing is ordered."""

import json
import os
import re
import time
import urllib.request

import pytest

from support.fake_prometheus import FakePrometheus, engine_samples
from support.penstock_process import process
from support.server_in_thread import in_a_thread

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

ADVISED = ["--advise", "--port", "0", "--set", "replicas[0].max_replicas=9", "--set",
           "scaling.start_s=2", "--set", "policies.scale={name: kpa, target: 2}"]


def metrics_of(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as response:
        text = response.read().decode()
    return {name: float(value) for name, value in re.findall(
        r"^(penstock:[^ ]+) ([\d.e+-]+)$", text, re.M)}


def until(url, name, value, num_looks=200):
    """Look at the metrics until one of them has a value, and return all of them."""
    for _ in range(num_looks):
        found = metrics_of(url)
        if found.get(name) == value:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{name} is {found.get(name)} and never became {value}")


def series(name, found):
    """The name of a series of the only group."""
    model = next(re.search(r'model_name="([^"]+)"', key)[1] for key in found if "model_name" in key)
    return f'penstock:{name}{{group="0",model_name="{model}"'


@pytest.fixture
def fake(repository, folder):
    model = re.search(r"models: \[\{name: ([^,}\]]+)", (folder / "fleet.yaml").read_text())[1]
    found = FakePrometheus()
    running = {"num": 3}

    def engines():
        return [sample for pod in ("a", "b") for sample in engine_samples(
            pod, running=running["num"], at_s=time.time(), model=model)]

    class Live(FakePrometheus):
        def result(self, query):
            self.engines = engines()
            return super().result(query)

    found = Live()
    found.running = running
    return found


def test_engines_behind_prometheus_are_observed_and_nothing_is_ordered(repository, folder, fake
                                                                       ) -> None:
    record = folder / "fleet.engines" / "scaling.jsonl"
    with in_a_thread(fake.server()) as prometheus:
        settings = [*ADVISED, "--set", f'scaling.observe={{"prometheus": "{prometheus}"}}']
        token = {"PENSTOCK_PROMETHEUS_TOKEN": "secret"}
        with process(repository, folder, "serve", "fleet.yaml", *settings,
                     environment=token) as front:
            url = front.stdout.readline().split()[1]
            group = series("replicas_wanted", metrics_of(url))
            found = until(url, f"{group}}}", 3)
            assert found["penstock:scaling_metrics_up"] == 1
            assert found[series("replicas", found) + ',state="ready"}'] == 2, "nothing is ordered"
            assert fake.headers[0]["Authorization"] == "Bearer secret"
            front.kill()
            front.wait(30)
        fake.running["num"] = 0
        with process(repository, folder, "serve", "fleet.yaml", *settings) as front:
            url = front.stdout.readline().split()[1]
            found = until(url, series("scaling_decisions_total", metrics_of(url)).replace(
                "{", '{direction="same",') + "}", 1)
            assert found[f"{group}}}"] == 2, "a policy without history does not shrink"

            async def unwell(_):
                raise ConnectionResetError

            fake.answer = unwell
            found = until(url, "penstock:scaling_metrics_up", 0)
            assert found[f"{group}}}"] == 2
            assert "metrics are missing, and the number of replicas stays" in (
                front.stderr.readline())
            fake.answer = None
            until(url, "penstock:scaling_metrics_up", 1)
            assert "metrics are back" in front.stderr.readline()
            front.kill()
            assert "secret" not in front.stderr.read()
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert {line["groups"][0]["target"] for line in lines if "groups" in line} == {2}
    assert any(line["demand"] is None for line in lines if "groups" in line)


def test_recorded_advice_replays_and_can_be_asked_of_others(repository, folder, penstock, fake
                                                            ) -> None:
    file = folder / "fleet.yaml"
    with in_a_thread(fake.server()) as prometheus:
        file.write_text(file.read_text().replace("count: 1}", "count: 1, max_replicas: 9}").replace(
            "route: least_loaded", "scale: {name: kpa, target: 2}")
            + f"scaling: {{start_s: 2, observe: {{prometheus: '{prometheus}'}}}}\n")
        with process(repository, folder, "serve", "fleet.yaml", "--advise", "--port", "0") as front:
            url = front.stdout.readline().split()[1]
            until(url, series("replicas_wanted", metrics_of(url)) + "}", 3)
            front.kill()
            front.wait(30)
    again = penstock("lab", "replay", "fleet.engines/scaling.jsonl", "--json")
    assert again.status == 0, again
    assert (again.json["num_different"], again.json["num_decisions"] > 0) == (0, True)
    other = penstock("lab", "replay", "fleet.engines/scaling.jsonl", "--scale", "kpa:target=1",
                     "--json")
    assert other.json["num_different"] > 0


@pytest.mark.parametrize(("settings", "said"), [
    (["scaling.observe={prometheus: 'ftp://a'}"], "scaling.observe.prometheus"),
    (["scaling.observe={prometheus: 'http://a', arrivals: 'sum(x)'}"], "scaling.observe.arrivals"),
    (["scaling.observe={prometheus: 'http://a', pod_label: x}"], "pod_label"),
    (["scaling.observe={prometheus: 'http://a'}", "replicas[0].engine=emulated"],
     "replicas[0].engine"),
    (["scaling.observe={prometheus: 'http://a'}",
      "replicas=[{count: 1, max_replicas: 2}, {count: 1, max_replicas: 2}]"],
     "replicas[1].served_as")])
def test_a_fleet_that_cannot_be_observed_is_one_clear_error(penstock, settings, said) -> None:
    outcome = penstock("serve", "fleet.yaml", *ADVISED,
                       *[part for one in settings for part in ("--set", one)])
    assert outcome.status == 2, outcome
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_without_advice_somebody_must_carry_out_orders(penstock) -> None:
    outcome = penstock("serve", "fleet.yaml", *ADVISED[1:], "--set",
                       "scaling.observe={prometheus: 'http://a'}")
    assert outcome.status == 2
    assert "scaling.webhook, or --advise" in outcome.err
