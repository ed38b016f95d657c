"""``penstock deployments`` as a user runs it: engines are processes on loopback, and outlive us."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.engines.process import started_mark
from support.penstock_process import process
from support.simulated_deployments import FLEET

posix = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")


@pytest.fixture
def ask(penstock, folder):
    """Calls ``penstock deployments`` in a folder that was made for four accelerators; engines that
    a failed test leaves are killed."""
    (folder / "four.yaml").write_text(FLEET)
    assert penstock("deployments", "init", "four.yaml").status == 0

    def call(verb, *arguments):
        return penstock("deployments", verb, *arguments)

    yield call
    for one in call("list", "--json").json["deployments"]:
        if one["pid"] and started_mark(one["pid"]):
            os.killpg(one["pid"], signal.SIGKILL)


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def states(ask):
    return {one["name"]: one["state"] for one in ask("list", "--json").json["deployments"]}


@posix
def test_profile_estimate_deploy_infer_remove(ask, folder):
    done = ask("register", "chat", "--model", "llama-2-7b", "--engine", "emulate", "--with",
               "speed=50")
    assert (done.status, done.out.split(": ")[0]) == (0, "chat")
    done = ask("deploy", "chat", "--intent", "min_lat")
    assert (done.status, done.out) == (1, "")
    assert "chat is not profiled" in done.err
    assert ask("profile", "chat", "--precision", "fp16,int4", "--json").json["state"] == "profiled"
    planned = ask("deploy", "chat", "--intent", "min_mem", "--dry-run", "--json").json
    assert planned["deployment"]["state"] == "profiled"
    done = ask("deploy", "chat", "--intent", "min_mem", "--json").json
    one = done["deployment"]
    assert done["decision"]["chosen"] == planned["decision"]["chosen"]
    assert (one["state"], one["configuration"]) == ("running", "tp1 pp1 int4 kv bf16")
    assert one["latency_s"]["low"] < one["latency_s"]["value"] < one["latency_s"]["high"]
    held = [device["used_bytes"] for device in ask("devices", "--json").json["devices"]]
    assert held == [one["placement"]["bytes_by_device"]["0"], 0, 0, 0]
    done = ask("infer", "chat", "once upon a time", "--max-tokens", 12, "--json").json
    assert (done["output_tokens"], done["simulated"]) == (12, False)
    assert len(done["text"].split()) == 12
    done = ask("infer", "chat", "once upon a time", "--max-tokens", 12)
    assert len(done.out.split()) == 12
    assert "12 tokens in" in done.err
    assert started_mark(one["pid"])
    done = ask("remove", "chat")
    assert (done.status, done.out.split("\n")[0]) == (0, "chat: llama-2-7b on emulate, removed")
    assert not started_mark(one["pid"])
    assert [event["state"] for event in ask("events", "chat", "--json").json["events"]] == [
        "registered", "profiling", "profiled", "deploying", "running", "removing", "removed"]
    assert "chat" not in ask("list").out
    assert "chat" in ask("list", "--all").out


def test_a_simulated_deployment_by_an_exact_configuration(ask):
    ask("register", "sim", "--model", "llama-2-13b", "--with", "load_s=0")
    done = ask("deploy", "sim", "--precision", "int4", "--tensor", 2, "--json").json
    assert done["deployment"]["configuration"] == "tp2 pp1 int4 kv fp16"
    assert done["deployment"]["latency_s"] is None
    assert done["deployment"]["placement"]["devices_by_stage"] == [[0, 1]]
    assert ask("infer", "sim", "x", "--max-tokens", 5, "--json").json["simulated"] is True
    assert ask("remove", "sim").status == 0


@pytest.mark.parametrize(("arguments", "status", "message"), [
    (("register", "b", "--model", "lama-2-7b"), 2, "did you mean 'llama-2-7b'?"),
    (("register", "b", "--model", "llama-2-7b", "--engine", "emulat"), 2, "did you mean 'emulate'"),
    (("register", "b c", "--model", "llama-2-7b"), 2, "name: 'b c'; expected at most 64"),
    (("register", "a", "--model", "llama-2-7b"), 1, "a is registered already"),
    (("register", "b", "--model", "llama-2-7b", "--with", "sped=1"), 2, "no option 'sped'"),
    (("register", "b", "--model", "llama-2-7b", "--with", "speed"), 2, "--with"),
    (("deploy", "aa"), 2, "deployment: 'aa' is unknown; did you mean 'a'?"),
    (("deploy", "a", "--intent", "min_late"), 2, "did you mean 'min_lat'?"),
    (("deploy", "a", "--precisions", "fp61"), 2, "precisions: 'fp61' is unknown"),
    (("deploy", "a", "--precision", "int5"), 2, "did you mean 'int"),
    (("deploy", "a", "--precision", "int4", "--intent", "min_lat"), 2, "expected one of them"),
    (("deploy", "a", "--tensor", "2"), 2, "give its --precision, too"),
    (("deploy", "a", "--precision", "int4", "--tensor", "3"), 2, "3 ranks do not divide"),
    (("deploy", "a", "--precision", "int4", "--tensor", "8"), 1, "no room"),
    (("deploy", "a", "--slo", "0"), 2, "'--slo': expected more than 0, found 0"),
    (("deploy", "a", "--accuracy", "four.yaml"), 2, "four.yaml: cannot be read as JSON"),
    (("profile", "a", "--from", "none"), 2, "no profile.json there"),
    (("profile", "a", "--from", "broken.csv"), 2, "broken.csv:1: no column 'PP'"),
    (("infer", "a", "x"), 1, "a is registered; it takes requests when it is running"),
    (("restart", "a"), 1, "only an unhealthy deployment"),
    (("remove", "b"), 2, "deployment: 'b' is unknown"),
    (("list", "--dir", "nowhere"), 2, "nowhere: found no deployments"),
    (("init", "four.yaml"), 2, "deployments: holds deployments already"),
    (("init", "four.yaml", "--dir", "x", "--train", "y"), 2, "--train y: no such folder"),
    (("init", "none.yaml", "--dir", "x"), 2, "none.yaml"),
    (("serve", "--queue", "maverik"), 2, "did you mean 'maveriq'?"),
])
def test_mistakes_and_refusals_are_one_clear_line_and_change_nothing(ask, folder, arguments,
                                                                    status, message):
    (folder / "broken.csv").write_text("Model,TP\nllama-2-7b,one\n")
    ask("register", "a", "--model", "llama-2-7b")
    done = ask(*arguments)
    assert done.status == status
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert states(ask) == {"a": "registered"}
    assert all(one["used_bytes"] == 0 for one in ask("devices", "--json").json["devices"])
    assert not (folder / "x").exists()


def test_a_refusal_as_json(ask):
    ask("register", "a", "--model", "llama-2-7b")
    done = ask("deploy", "a", "--precision", "int4", "--tensor", 8, "--json")
    assert done.status == 1
    error = done.json["error"]
    assert error["code"] == "no_room"
    assert error["details"]["rejected"][0]["configuration"] == "tp8 pp1 int4 kv fp16"


# -- the server -----------------------------------------------------------------------------------


@contextmanager
def serving(repository, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-m", "penstock", "deployments", "serve", "--port", "0",
               "--look-every", "0.05", *arguments]
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            word, url = process.stdout.readline().split()
            assert word == "deployments"
            yield process, url
        finally:
            process.kill()


def post(url, path, **order):
    request = urllib.request.Request(f"{url}/v1/deployments{path}", json.dumps(order).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@posix
def test_deployments_answer_through_the_gateway_like_any_replica(ask, repository, folder):
    ask("register", "chat", "--model", "llama-2-7b", "--engine", "emulate", "--with", "speed=100")
    with process(repository, folder, "serve", "four.yaml", "--port", "0", "--deployments",
                 "deployments") as front:
        url = front.stdout.readline().split()[1]
        done = ask("deploy", "chat", "--precision", "int4", "--json").json["deployment"]
        assert done["state"] == "running"

        def answered():
            body = json.dumps({"model": "llama-2-7b", "prompt": "hello", "max_tokens": 3,
                               "ignore_eos": True}).encode()
            try:
                with urllib.request.urlopen(urllib.request.Request(
                        f"{url}/v1/completions", body, {"Content-Type": "application/json"}),
                        timeout=60) as response:
                    return json.load(response)["usage"]["completion_tokens"] == 3
            except urllib.error.HTTPError as error:
                error.close()
                return False

        until(answered)
        front.send_signal(signal.SIGTERM)
        assert front.wait(timeout=60) == 0
    assert started_mark(done["pid"]), "a deployment goes on until it is removed"
    assert ask("remove", "chat").status == 0


@posix
def test_a_server_restarts_what_dies_and_adopts_what_lives(ask, repository, folder):
    ask("register", "chat", "--model", "llama-2-7b", "--engine", "emulate", "--with", "speed=100")
    with serving(repository, folder) as (process, url):
        # Commands go to the server now, which has the folder.
        done = ask("deploy", "chat", "--precision", "int4", "--json").json["deployment"]
        assert done["state"] == "running"
        assert post(url, "/chat/deploy", configuration={"precision": "int4"})[1]["error"][
            "code"] == "state"
        os.killpg(done["pid"], signal.SIGKILL)
        until(lambda: any(one["state"] == "unhealthy" for one in
                          ask("events", "chat", "--json").json["events"]))
        until(lambda: states(ask)["chat"] == "running")
        again = ask("show", "chat", "--json").json
        assert again["pid"] != done["pid"]
        process.kill()  # the engine goes on
        process.wait()
    assert started_mark(again["pid"])
    assert (folder / "deployments" / "server.json").exists()  # a killed server leaves its address
    assert ask("infer", "chat", "hello", "--max-tokens", 3, "--json").json["output_tokens"] == 3
    with serving(repository, folder, "--queue", "maveriq") as (process, url):
        assert post(url, "/chat/infer", prompt="hello", max_tokens=4)[1]["output_tokens"] == 4
        assert ask("show", "chat", "--json").json["pid"] == again["pid"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert not (folder / "deployments" / "server.json").exists()
    assert ask("remove", "chat").status == 0
    assert not started_mark(again["pid"])


@posix
def test_a_command_that_is_killed_leaves_nothing_half_done(ask, repository, folder):
    ask("register", "chat", "--model", "llama-2-7b", "--engine", "emulate")
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-m", "penstock", "deployments", "deploy", "chat", "--precision",
               "int4"]
    log = folder / "deployments" / "logs" / "chat.log"
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        until(log.exists)
        process.kill()
    one = ask("show", "chat", "--json").json
    assert one["state"] in ("failed", "registered")
    assert one["placement"] is None
    assert all(one["used_bytes"] == 0 for one in ask("devices", "--json").json["devices"])
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    until(lambda: str(folder) not in listed.stdout)
    assert ask("deploy", "chat", "--precision", "int4", "--json").json["deployment"][
        "state"] == "running"
    assert ask("remove", "chat", "--cancel").status == 0


@posix
def test_a_folder_has_one_server(ask, repository, folder, penstock):
    with serving(repository, folder):
        done = penstock("deployments", "serve", "--port", "0")
        assert done.status == 2
        assert "another command or server has this folder open" in done.err


def test_without_the_extra_it_is_named(penstock, folder, monkeypatch):
    (folder / "four.yaml").write_text(FLEET)
    assert penstock("deployments", "init", "four.yaml").status == 0
    for module in [name for name in sys.modules
                   if name.startswith(("penstock.serving.deployments",
                                       "penstock.engines.client.client"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = penstock("deployments", "list")
    assert done.status == 2
    assert "error: the package aiohttp is not installed; " in done.err
