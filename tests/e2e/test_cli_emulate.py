"""``penstock emulate`` as a user runs it: a process, clients, an interrupt, a replay."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")


@contextmanager
def emulating(repository, folder, *arguments):
    """A real process on free ports."""
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-m", "penstock", "emulate", "fleet.yaml", "--port", "0",
               "--set", "replicas[0].count=2", "--speed", "1000", *arguments]
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(url: str, **body) -> dict:
    request = urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return orjson.loads(response.read())


def ended(process, number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fleet_answers_until_it_is_stopped_and_its_journals_replay(
        number, repository, folder, penstock) -> None:
    with emulating(repository, folder, "--journal", "kept") as process:
        rows = [process.stdout.readline().split() for _ in range(2)]
        assert [[name, *rest] for name, _, *rest in rows] == [
            ["replica-0", "llama-3-8b", "a100-80gb"], ["replica-1", "llama-3-8b", "a100-80gb"]]
        first, second = (ask(url, prompt="the same", max_tokens=60) for _, url, *_ in rows)
        assert first["usage"] == {"prompt_tokens": 2, "completion_tokens": 40, "total_tokens": 42}
        assert first["choices"] == second["choices"]
        assert ended(process, number) == (0, "", "")
    assert sorted(path.name for path in (folder / "kept").iterdir()) == [
        "fleet.yaml", "journal-0.jsonl", "journal-1.jsonl"]
    for replica in range(2):
        done = penstock("lab", "replay", f"kept/journal-{replica}.jsonl", "--json")
        assert done.json == {"num_plans": 40, "same": True}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_one_replica_and_json(repository, folder) -> None:
    with emulating(repository, folder, "--replica", "1", "--json") as process:
        lines = [process.stdout.readline()]
        while lines[-1] != "}\n":
            lines.append(process.stdout.readline())
        (one,) = orjson.loads("".join(lines))["replicas"]
        assert set(one) == {"name", "url", "model", "accelerator"}
        assert one["name"] == "replica-1"
        assert ask(one["url"], prompt=[1, 2, 3], max_tokens=1)["usage"]["prompt_tokens"] == 3
        assert ended(process, signal.SIGTERM) == (0, "", "")


@pytest.mark.parametrize(("arguments", "message"), [
    (("--replica", "1"), "no replica 1: fleet small has 1, counted from 0"),
    (("--replica", "0", "--all"), "--all and --replica 0 exclude each other"),
    (("--speed", "0"), "invalid value for '--speed'"),
    (("--speed", "nan"), "invalid value for '--speed'"),
    (("--port", "70000"), "invalid value for '--port'"),
    (("--host", "300.1.1.1", "--port", "0"), "cannot listen on 300.1.1.1 port 0"),
    (("--journal", "."), "--journal .: holds files already; expected a new folder"),
    (("--set", "replicas[0].cuont=2"), "did you mean 'count'?"),
])
def test_bad_input_is_one_line(penstock, arguments, message) -> None:
    done = penstock("emulate", "fleet.yaml", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_a_fleet_without_replicas(penstock) -> None:
    done = penstock("emulate", "unsized.yaml")
    assert done.status == 2
    assert "states no replicas; state them, or find their number with `penstock plan`" in done.err


@pytest.mark.parametrize("missing", ["aiohttp", "prometheus_client"])
def test_without_the_extra_it_is_named(penstock, monkeypatch, missing) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for module in [name for name in sys.modules
                   if name.startswith(("penstock.engines.emulated", "penstock.engines.server"))]:
        monkeypatch.delitem(sys.modules, module)
    done = penstock("emulate", "fleet.yaml")
    assert done.status == 2
    assert f"error: the package {missing} is not installed; " in done.err


def test_help_has_an_example(penstock) -> None:
    done = penstock("emulate", "--help")
    assert done.status == 0
    assert "Example: penstock emulate" in done.out
