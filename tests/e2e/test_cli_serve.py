"""``penstock serve`` as a user runs it: engines and gateway as processes, and a client."""

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request

import pytest

from penstock.serving.planning.queue import EXAMPLE
from support.penstock_process import process

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")


def ask(url, **body):
    request = urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.headers, json.load(response)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_engine_loses_no_request_and_the_gateway_stops_when_told(
        repository, folder) -> None:
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000"
                 ) as one, process(repository, folder, "emulate", "fleet.yaml", "--port", "0",
                                   "--speed", "1000") as two:
        urls = [engine.stdout.readline().split()[1] for engine in (one, two)]
        settings = ["--set", f"replicas[0].endpoints={json.dumps(urls)}",
                    "--set", "replicas[0].count=2"]
        with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *settings) as front:
            word, url = front.stdout.readline().split()
            assert word == "gateway"
            headers, answer = ask(url, prompt="the same", max_tokens=5, ignore_eos=True)
            assert answer["usage"]["completion_tokens"] == 5
            assert headers["X-Penstock-Decision"].startswith("dec-")
            one.kill()
            one.wait(30)
            answers = [ask(url, prompt="the same", max_tokens=5, ignore_eos=True)[1]
                       for _ in range(10)]
            assert {answer["choices"][0]["text"] for answer in answers} == {
                answer["choices"][0]["text"]}
            front.send_signal(signal.SIGTERM)
            out, err = front.communicate(timeout=30)
            assert (front.returncode, out, err) == (0, "", "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_changed_fleet_file_is_gone_by_and_a_broken_one_is_told_of(repository, folder) -> None:
    text = (folder / "fleet.yaml").read_text()

    def write(*urls):
        (folder / "served.yaml").write_text(text.replace(
            "replicas: [{count: 1}]",
            f"replicas: [{{count: {len(urls)}, endpoints: {json.dumps(urls)}}}]"))

    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000"
                 ) as one, process(repository, folder, "emulate", "fleet.yaml", "--port", "0",
                                   "--speed", "1000") as two:
        first, second = (engine.stdout.readline().split()[1] for engine in (one, two))
        write(first)
        with process(repository, folder, "serve", "served.yaml", "--port", "0") as front:
            url = front.stdout.readline().split()[1]
            write(first, second)
            assert front.stderr.readline().strip().endswith(f"was read again: {second} is new")
            write(second)
            assert front.stderr.readline().strip().endswith(f"{first} is being drained")
            (folder / "served.yaml").write_text(text.replace("chat", "chat,"))
            line = front.stderr.readline().strip()
            assert line.startswith("served.yaml:")
            assert line.endswith("the gateway goes on with the fleet that it had")
            one.kill()
            for _ in range(3):
                assert ask(url, prompt="x", max_tokens=5)[1]["choices"]
            front.send_signal(signal.SIGHUP)
            assert front.stderr.readline().startswith("served.yaml:")


def test_a_fleet_without_engines_cannot_be_served(penstock) -> None:
    outcome = penstock("serve", "fleet.yaml")
    assert outcome.status == 2
    assert "replicas: none has endpoints" in outcome.err


@pytest.mark.parametrize(("settings", "said"), [
    (["replicas[0].endpoints=[http://a, http://b]"], "2 for 1 replicas; expected one for each"),
    (["replicas[0].endpoints=[ftp://a]"], "endpoints"),
    (["replicas[0].endpoints=[http://a?x=1]"], "endpoints"),
    (["replicas[0].endpoints=http://a"], "endpoints")])
def test_wrong_endpoints_are_one_clear_error(penstock, settings, said) -> None:
    outcome = penstock("serve", "fleet.yaml", *[part for s in settings for part in ("--set", s)])
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


EMULATED = ["--set", "replicas[0].engine=emulated", "--set", "replicas[0].count=2"]


def engines_of(url):
    with urllib.request.urlopen(f"{url}/v1/penstock/status", timeout=60) as response:
        return {one["url"] for one in json.load(response)["engines"] if one["unavailable"] is None}


def asked(url, path, body):
    """The answer to an order; a process of its own makes it."""
    request = urllib.request.Request(f"{url}{path}", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def is_alive(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_one_command_serves_replicas_that_the_file_asks_for(repository, folder) -> None:
    with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *EMULATED) as front:
        url = front.stdout.readline().split()[1]
        assert ask(url, prompt="hello", max_tokens=3, ignore_eos=True)[1]["usage"][
            "completion_tokens"] == 3
        engines = engines_of(url)
        assert len(engines) == 2
        assert asked(url, "/v1/queue/solve", {**EXAMPLE, "rate_per_s": 1.0})["throughput_per_s"] > 0
        twice = process(repository, folder, "serve", "fleet.yaml", "--port", "0", *EMULATED)
        with twice as other:
            _, err = other.communicate(timeout=60)
            assert other.returncode == 2
            assert "another penstock serve has this folder open" in err
        front.kill()
        front.wait(30)
    assert all(map(is_alive, engines)), "engines outlive a gateway that was killed"
    with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *EMULATED) as front:
        url = front.stdout.readline().split()[1]
        assert engines_of(url) == engines, "the next one adopts them"
        front.send_signal(signal.SIGTERM)
        _, err = front.communicate(timeout=60)
        assert (front.returncode, err) == (0, "")
    assert not any(map(is_alive, engines)), "and an orderly exit ends them"


def test_a_replica_that_will_not_start_is_one_clear_error(penstock) -> None:
    outcome = penstock("serve", "fleet.yaml", "--port", "0", "--set", "replicas[0].engine=vllm",
                       "--set", "replicas[0].served_as=no-such-model")
    assert outcome.status == 2
    assert "replica 0" in outcome.err
    assert outcome.err.count("\n") == 1


SCALED = [*EMULATED[:2], "--set", "replicas[0].count=1", "--set", "replicas[0].min_replicas=0",
          "--set", "replicas[0].max_replicas=2", "--set", "scaling.start_s=2"]


def scaling_of(url):
    with urllib.request.urlopen(f"{url}/v1/penstock/status", timeout=60) as response:
        return json.load(response)["scaling"]


def until(url, wanted, num_looks=300):
    """Look at the only group until it is as wanted."""
    for _ in range(num_looks):
        group = scaling_of(url)["groups"][0]
        if all(group[key] == value for key, value in wanted.items()):
            return
        time.sleep(0.1)
    raise AssertionError(f"{group} never became {wanted}")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_fleet_goes_to_zero_comes_back_for_a_request_and_survives_its_gateway(
        repository, folder) -> None:
    settings = [*SCALED, "--set", 'policies.scale={"name": "kpa", "target": 1, '
                                  '"stable_window_s": 6, "zero_grace_s": 0}']
    with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *settings) as front:
        url = front.stdout.readline().split()[1]
        until(url, {"target": 0, "ready": 0, "draining": 0})
        assert engines_of(url) == set()
        answer = ask(url, prompt="hello", max_tokens=3, ignore_eos=True)[1]
        assert answer["usage"]["completion_tokens"] == 3
        until(url, {"target": 1, "ready": 1})
        engines = engines_of(url)
        assert len(engines) == 1
        front.kill()
        front.wait(30)
    assert all(map(is_alive, engines))
    static = [*SCALED, "--set", "replicas[0].count=2", "--set", "policies.scale=static"]
    with process(repository, folder, "serve", "fleet.yaml", "--port", "0", *static) as front:
        url = front.stdout.readline().split()[1]
        assert engines_of(url) == engines, "the next one adopts them, and starts no others"
        until(url, {"target": 2, "ready": 2})
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as response:
            metrics = response.read().decode()
        assert re.search(r'^penstock:replicas\{group="0",.*state="ready"\} 2\.0$', metrics, re.M)
        assert re.search(r"^penstock:replicas_cost_per_hour [\d.]+$", metrics, re.M)
        front.send_signal(signal.SIGTERM)
        _, err = front.communicate(timeout=60)
        assert front.returncode == 0, err
    assert not any(map(is_alive, engines))
    lines = (folder / "fleet.engines" / "scaling.jsonl").read_text().splitlines()
    assert sum('"record"' in line for line in lines) == 2


def test_a_fleet_that_cannot_be_scaled_is_one_clear_error(penstock) -> None:
    outcome = penstock("serve", "fleet.yaml", "--port", "0", *SCALED, "--set",
                       "policies.scale=penstock", "--set", "replicas[0].engine=ollama")
    assert outcome.status == 2
    assert "scaling.webhook, or --advise" in outcome.err
    assert outcome.err.count("\n") == 1
    outcome = penstock("serve", "fleet.yaml", "--port", "0", *EMULATED, "--advise")
    assert outcome.status == 2
    assert "policies.scale is none" in outcome.err
