"""``penstock plan --inferno``, ``reproduce inferno`` and ``plan-server`` as a user runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime

import orjson
import pytest

from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import settings_of, solve
from support.inferno_bundles import V2, document, rows, server, write


@pytest.fixture
def bundle(folder):
    return write(folder / "bundle")


def test_a_plan_as_tables(penstock, bundle) -> None:
    done = penstock("plan", "--inferno", bundle)
    assert done.status == 0, done.err
    assert "Premium-large" in done.out
    assert "4 of 4 served" in done.out
    assert "Cards" in done.out
    assert done.err == ""


@pytest.mark.parametrize("solver", ["unlimited", "greedy", "milp-single", "milp-multi"])
def test_a_plan_as_json(penstock, bundle, solver) -> None:
    done = penstock("plan", "--inferno", bundle, "--solver", solver, "--json")
    assert done.status == 0
    plan = done.json
    assert (plan["solver"], plan["complete"]) == (solver, True)
    assert plan["totalCost"] == pytest.approx(sum(
        each["cost"] for each in plan["allocations"].values()))
    assert set(plan["allocations"]) == {"Free-large", "Free-small", "Premium-large",
                                        "Premium-small"}
    assert plan["gap"] == 0.0 or solver == "greedy"
    assert {"objective", "bound", "time_s", "unserved", "saturated", "diff", "devices"} <= set(plan)
    assert plan["cards"] == plan["devices"]


def test_too_few_cards_end_with_status_1(penstock, bundle) -> None:
    scarce = ("plan", "--inferno", bundle, "--capacity-factor", "0.1", "--json")
    left_out = penstock(*scarce, "--saturation", "None")
    assert left_out.status == 1
    assert set(left_out.json["unserved"]) == {"Free-large", "Premium-large"}
    saturated = penstock(*scarce, "--saturation", "priorityexhaustive", "--delayed-best-effort")
    assert saturated.status == 1
    assert saturated.json["saturated"] == ["Free-large", "Premium-large"]
    assert (saturated.json["saturationPolicy"], saturated.json["delayedBestEffort"]) == (
        "PriorityExhaustive", True)
    shown = penstock("plan", "--inferno", bundle, "--capacity-factor", "0.1")
    assert "saturated" in shown.out


def test_files_of_a_plan(penstock, bundle, folder) -> None:
    done = penstock("plan", "--inferno", bundle, "--out", "kept", "--json")
    assert done.status == 0
    assert orjson.loads((folder / "kept/plan.json").read_bytes()) == done.json
    answer = orjson.loads((folder / "kept/solution-data.json").read_bytes())
    assert list(answer) == ["allocations"]
    assert done.err == "files in kept\n"
    assert penstock("plan", "--inferno", bundle, "--out", "kept").status == 0


def test_misspelt_references_are_told_and_the_plan_goes_on(penstock, folder) -> None:
    made = document()
    rows(made, "modelData")[0]["acc"] = "AA"
    rows(made, "acceleratorData")[2]["type"] = "BB"
    rows(made, "serviceClassData")[0]["priority"] = 0
    made["system"]["optimizerData"]["optimizer"]["saturationPolicy"] = "RoundRobbin"
    done = penstock("plan", "--inferno", write(folder / "bundle", made), "--json")
    told = done.err.splitlines()
    assert done.status == 1
    assert len(told) == 4
    assert all(line.startswith("note: ") for line in told)
    for words in ("model-data: acc 'AA' is no accelerator", "type 'BB' has no count in capacity-",
                  "priority 0 counts as 100, the lowest", "'RoundRobbin' counts as None; did you "
                  "mean 'RoundRobin'?"):
        assert any(words in line for line in told)
    assert done.json["saturationPolicy"] == "None"


def test_folders_of_others_are_left_alone(penstock, bundle, folder) -> None:
    """Even where they have a plan.json, as that of a fleet has."""
    (folder / "other").mkdir()
    for name in ("plan.json", "fleet.yaml"):
        (folder / "other" / name).write_text("old")
    for place in (".", "other"):
        done = penstock("plan", "--inferno", bundle, "--out", place)
        assert done.status == 2
        assert done.out == ""
        assert f"error: {place}: holds other files" in done.err
        assert "one with an earlier plan of a bundle" in done.err
    assert (folder / "other/plan.json").read_text() == "old"
    assert penstock("plan", "--inferno", bundle, "--out", "kept").status == 0
    done = penstock("plan", "unsized.yaml", "--out", "kept")
    assert (done.status, "kept: holds other files" in done.err) == (2, True)


def test_one_file_is_a_bundle_too(penstock, folder) -> None:
    (folder / "bundle.json").write_text(json.dumps(V2))
    assert penstock("plan", "--inferno", "bundle.json").status == 0


def test_an_unserved_server_is_explained(penstock, folder) -> None:
    made = document()
    server(made, "Free-small")["class"] = "Fre"
    done = penstock("plan", "--inferno", write(folder / "bundle", made))
    assert done.status == 1
    assert "no service class 'Fre'; did you mean 'Free'?" in done.out


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "expected a fleet file or --inferno DIR"),
    (("fleet.yaml", "--inferno", "bundle"), "not both"),
    (("--inferno", "nowhere"), "nowhere: no such file or folder"),
    (("--inferno", "."), "accelerator-data.json is missing"),
    (("--inferno", "fleet.yaml"), "fleet.yaml: is not JSON"),
    (("--inferno", "bundle", "--solver", "milp"), "--solver 'milp'; did you mean 'milp-"),
    (("--inferno", "bundle", "--saturation", "Fair"), "--saturation 'Fair'; expected one of: None"),
    (("--inferno", "bundle", "--capacity-factor", "-1"), "--capacity-factor"),
    (("--inferno", "bundle", "--capacity-factor", "nan"), "--capacity-factor"),
    (("--inferno", "bundle", "--capacity-factor", "inf"), "--capacity-factor"),
    (("--inferno", "bundle", "--solvr", "greedy"), "no option '--solvr'; did you mean '--solver'"),
    (("--inferno", "bundle", "--out", "fleet.yaml"), "fleet.yaml"),
])
def test_bad_input_is_one_line(penstock, bundle, arguments, message) -> None:
    done = penstock("plan", *arguments)
    assert done.status == 2
    assert message in done.err
    assert done.out == ""
    assert done.err.count("\n") == 1


def test_help_has_an_example(penstock) -> None:
    for command in ("plan", "lab plan-server"):
        done = penstock(*command.split(), "--help")
        assert done.status == 0
        assert "Example" in done.out
        assert f"penstock {command}" in done.out


def test_reproduce_inferno(penstock, bundle, folder) -> None:
    system = parse_bundle(document("v1"), "body")
    sample = write(folder / "data/sample_v1/small", document("v1"))
    plan = solve(system, settings_of(system.options))
    answer = {"allocations": {name: {"accelerator": each.accelerator, "cost":
                                     each.cost_cents_per_hour, "numReplicas": each.num_replicas}
                              for name, each in plan.allocations.items()}}
    (sample / "solution-data.json").write_text(json.dumps(answer))
    done = penstock("lab", "reproduce", "inferno", "--data", "data", "--out", "kept")
    assert done.status == 0, done.err
    assert "figures agree" in done.out
    assert (folder / "kept/files.csv").is_file()
    before = penstock("lab", "reproduce", "inferno", "--data", "data", "--out",
                      "kept/files.csv/more")
    assert (before.status, before.out) == (2, "")
    assert "--out kept/files.csv/more: is a file, or in one" in before.err
    answer["allocations"]["Free-small"]["numReplicas"] += 1
    (sample / "solution-data.json").write_text(json.dumps(answer))
    off = penstock("lab", "reproduce", "inferno", "--data", "data", "--json")
    assert off.status == 1
    (record,) = off.json["records"]
    assert [field["field"] for field in record["fields"] if not field["agrees"]] == [
        "before Free-small.numReplicas"]


@contextmanager
def running(repository, *arguments):
    """A real server on a free port of the loopback interface, and its address."""
    pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-m", "penstock", "lab", "plan-server", "--port", "0",
               *arguments]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            yield found[0], process
        finally:
            process.kill()


def post(address, path, body, content_type="application/json"):
    request = urllib.request.Request(f"{address}{path}", data=body, method="POST",
                                     headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, orjson.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, orjson.loads(error.read())


def test_a_server_on_the_loopback(repository, penstock, bundle) -> None:
    printed = penstock("plan", "--inferno", bundle, "--json").json
    with running(repository, "--max-body-mb", "1") as (address, process):
        status, answer = post(address, "/optimizeOne", json.dumps(V2).encode())
        assert status == 200
        assert {name: each["cost"] for name, each in answer["allocations"].items()} == {
            name: each["cost"] for name, each in printed["allocations"].items()}
        broken = document()
        server(broken, "Free-small")["class"] = "Fre"
        status, answer = post(address, "/optimizeOne", json.dumps(broken).encode())
        assert (status, answer["message"]) == (
            404, "no feasible allocation for servers: [Free-small]")
        assert post(address, "/optimizeOne", b"{")[0] == 400
        assert post(address, "/optimizeOne", b" " * 2**21)[0] == 413
        with urllib.request.urlopen(f"{address}/openapi.json", timeout=60) as response:
            assert "/v1/queue/size" in orjson.loads(response.read())["paths"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_fleet_file_is_planned_over_http(repository, penstock, folder, monkeypatch) -> None:
    """As ``penstock plan --json`` plans it on the same day."""
    monkeypatch.setattr("penstock.cli.moments.today", lambda: datetime.now(UTC).date())
    printed = penstock("plan", "unsized.yaml", "--json", "--no-report", "--seed", "5").json
    text = (folder / "unsized.yaml").read_bytes()
    with running(repository, "--time-limit", "100") as (address, process):
        status, answer = post(address, "/v1/plan?seed=5", text, "application/yaml")
        assert status == 200
        for document in (answer, printed):
            document.pop("name")
            del document["timing"]
        assert answer == printed
        status, answer = post(address, "/v1/plan?time_limit_s=0.01", text, "application/yaml")
        assert (status, "0.01 s" in answer["message"]) == (504, True)
        reading = text.replace(b"traffic:", b"catalog: unsized.yaml\ntraffic:")
        status, answer = post(address, "/v1/plan", reading, "application/yaml")
        assert status == 400
        assert "catalog: names a file, 'unsized.yaml'" in answer["message"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_caller_who_hangs_up_makes_room_for_the_next(repository, folder) -> None:
    """The plan that nobody waits for is stopped: it would keep the only place for minutes."""
    text = (folder / "unsized.yaml").read_bytes()
    long = re.sub(rb"num_requests: \d+", b"num_requests: 300000", text)
    assert long != text
    with running(repository, "--plans", "1", "--waiting", "0", "--time-limit", "500") as (
            address, _):
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(urllib.request.Request(
                f"{address}/v1/plan", long, {"Content-Type": "application/yaml"}), timeout=2)
        for _ in range(100):
            status, _ = post(address, "/v1/plan", text, "application/yaml")
            if status != 429:
                break
            time.sleep(0.1)
        assert status == 200


def test_a_port_that_is_taken(repository, penstock) -> None:
    with running(repository) as (address, _):
        done = penstock("lab", "plan-server", "--port", address.rsplit(":", 1)[1])
    assert done.status == 2
    assert "Address already in use" in done.err


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7", "", "a..b"])
def test_a_host_that_is_none_of_ours(penstock, host) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
    done = penstock("lab", "plan-server", "--port", "0", "--host", host, "--open")
    assert done.status == 2
    assert done.err.startswith("error: --host")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", [("lab", "plan-server"), ("deployments", "serve")])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7"])
def test_beyond_the_loopback_a_server_without_keys_must_be_told_so(penstock, command, host) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
    done = penstock(*command, "--port", "0", "--host", host)
    assert (done.status, done.out) == (2, "")
    assert done.err == (f"error: --host {host}: this server asks for no keys; beyond the loopback "
                        "interface it needs --tls-client-ca, or --open to admit anyone\n")


def test_without_aiohttp_the_extra_is_named(penstock, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "penstock.serving.planning.server", raising=False)
    done = penstock("lab", "plan-server")
    assert done.status == 2
    assert "error: the package aiohttp is not installed; " in done.err
