"""``penstock bench`` as a user runs it, before an engine that is a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")


# No machine is too busy for these.
EASY = ("--set", "service_classes[0].slo={ttft_s: 300, itl_s: 60}", "--set",
        "service_classes[1].slo={e2e_s: 3000}")


@contextmanager
def emulated(repository, folder, *arguments):
    """The URL of an engine that is fast enough for tests."""
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-m", "penstock", "emulate", "fleet.yaml", "--port", "0", "--speed",
               "100", *arguments]
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_prompts_of_a_file_are_sent_as_they_are(repository, folder, penstock) -> None:
    (folder / "train_gen.jsonl").write_text("".join(
        json.dumps({"system": "Be brief.", "user": "word " * num, "assistant": "x"}) + "\n"
        for num in (5, 50)))
    with emulated(repository, folder) as url:
        done = penstock("bench", url, "--prompt-file", "train_gen.jsonl", "--api", "chat",
                        "--requests", "4", "--rate", "50", "--output-tokens", "3", "--out",
                        "runs/given", "--no-report", "--json")
    assert done.status == 0
    load = done.json["load"]
    assert (load["prompts"], load["prompt_file"], load["num_prompts"]) == (
        "given", "train_gen.jsonl", 2)
    assert done.json["outcomes"]["finished"] == 4
    import pyarrow.parquet as pq
    tokens = pq.read_table(folder / "runs/given/requests.parquet")["prompt_tokens"].to_pylist()
    assert tokens[0] == tokens[2] < tokens[1] == tokens[3]


def test_a_fleets_traffic_is_measured_kept_and_told_again(repository, folder, penstock) -> None:
    with emulated(repository, folder) as url:
        done = penstock("bench", f"{url}/v1", "--fleet", "fleet.yaml", *EASY, "--rate", "100",
                        "--class-to-engine", "--out", "runs/a", "--json")
    assert done.status == 0
    summary = done.json
    assert summary["outcomes"] == {"sent": 60, "finished": 60, "failed": {}}
    assert summary["classes"]["chat"]["meets_slo"] is True
    assert summary["load"]["url"] == url
    assert summary["load"]["rate_per_s"] == 100.0
    assert sorted(path.name for path in (folder / "runs/a").iterdir()) == [
        "fleet.yaml", "plotly.min.js", "report.html", "requests.parquet", "summary.json"]
    assert json.loads((folder / "runs/a/summary.json").read_text()) == summary
    page = (folder / "runs/a/report.html").read_text()
    assert "Requests and the load itself" in page
    told = penstock("lab", "report", "runs/a", "--html", "again.html")
    assert told.status == 0
    assert f"Served by {url}" in told.out
    assert "after they were due" in told.out
    assert (folder / "again.html").is_file()


def test_five_hundred_agents_lose_nothing(repository, folder, penstock) -> None:
    """Sessions of two turns that begin within seconds; of twenty, two calls at once and a join."""
    header = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 16}
    rows = []
    for number in range(500):
        def row(name, begin_ms, *waits, number=number):
            return {"request_id": f"{number}-{name}", "play_id": str(number), "input_length": 48,
                    "output_length": 3, "hash_ids": [0, 2 * number + 1],
                    **({} if waits else {"not_before_ms": begin_ms}), "dependencies": [
                        {"request_id": f"{number}-{one}", "trigger": trigger, "delay_ms": delay_ms}
                        for one, trigger, delay_ms in waits]}

        rows += [row("plan", number * 5), row("left", 0, ("plan", "completion", 20))]
        if number < 20:
            rows += [row("right", 0, ("plan", "dispatch", 5)),
                     row("join", 0, ("left", "completion", 10), ("right", "completion", 0))]
    (folder / "agents.jsonl").write_text("".join(json.dumps(one) + "\n"
                                                 for one in (header, *rows)))
    with emulated(repository, folder) as url:
        done = penstock("bench", url, "--trace", "agents.jsonl", "--task", "300", "--out",
                        "runs/agents", "--no-report", "--json")
    summary = done.json
    assert done.status == 0
    assert summary["outcomes"] == {"sent": 1040, "finished": 1040, "failed": {}}
    assert summary["load"]["sessions"] == 500
    tasks = summary["overall"]["tasks"]
    assert (tasks["began"], tasks["met"], tasks["requests"]) == (500, 500, 1040)
    assert summary["generator"]["lateness_s"]["p50"] >= 0.0


def test_a_target_that_is_missed_is_status_1(repository, folder, penstock) -> None:
    with emulated(repository, folder) as url:
        done, paced = (penstock("bench", url, "--rate", "200", "--requests", "20", target,
                                "0.000001", "--output-tokens", "40", "--prompt-tokens", "10-20",
                                "--no-report") for target in ("--e2e", "--tpot"))
    assert done.status == paced.status == 1
    assert "default misses its objective" in done.out
    assert re.search(r"TPOT \d+ ", paced.out)
    assert not (folder / "runs/bench/report.html").exists()


@pytest.mark.parametrize("option", ["--rate", "--concurrency"])
def test_a_sweep_has_a_folder_per_level(repository, folder, penstock, monkeypatch, option) -> None:
    monkeypatch.setenv("PENSTOCK_RUNS", str(folder / "runs.db"))
    name = option[2:]
    with emulated(repository, folder) as url:
        done = penstock("bench", url, option, "2,50", "--requests", "10", "--output-tokens", "4",
                        "--arrivals", "constant", "--out", "levels", "--no-report")
        paged = penstock("bench", url, option, "20,50", "--requests", "10", "--output-tokens", "4",
                         "--arrivals", "constant", "--out", "paged")
    assert done.status == paged.status == 0
    assert not (folder / "levels/report.html").exists()
    page = (folder / "paged/report.html").read_text()
    assert ("requests in flight" if name == "concurrency" else "arrivals, requests/s") in page
    assert [path.relative_to(folder / "paged").as_posix()
            for path in (folder / "paged").rglob("plotly.min.js")] == ["plotly.min.js"]
    assert 'src="../plotly.min.js"' in (folder / f"paged/{name}-20/report.html").read_text()
    assert "Levels of" in done.out
    kept = penstock("runs", "list", "--where", "folder=*/levels/*", "--json").json["runs"]
    assert [(run["kind"], run["num_requests"]) for run in kept] == [("bench", 10)] * 2
    rows = json.loads((folder / "levels/sweep.json").read_text())
    assert [row["finished"] for row in rows] == [10, 10]
    for level in (2, 50):
        kept = penstock("lab", "report", f"levels/{name}-{level}", "--json")
        assert kept.json["outcomes"]["sent"] == 10


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "no URL"),
    (("localhost:8000",), "expected for example http://127.0.0.1:8000"),
    (("http://127.0.0.1:9", "--rate", "0"), "--rate '0'"),
    (("http://127.0.0.1:9", "--rate", "1", "--concurrency", "1"), "exclude each other"),
    (("http://127.0.0.1:9", "--concurrency", "1.5"), "whole numbers"),
    (("http://127.0.0.1:9", "--fleet", "fleet.yaml", "--prompt-tokens", "5"), "beside --fleet"),
    (("http://127.0.0.1:9", "--set", "a=1"), "give --fleet"),
    (("http://127.0.0.1:9", "--itl", "1", "--tpot", "1"), "--itl and --tpot: expected one of them"),
    (("http://127.0.0.1:9", "--api", "chats"), "expected completions or chat"),
    (("http://127.0.0.1:9", "--api", "chat", "--prompts", "ids"), "a chat takes text"),
    (("http://127.0.0.1:9", "--prompt-file", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
    (("http://127.0.0.1:9", "--prompt-file", "x.jsonl", "--prompt-tokens", "5"),
     "--prompt-tokens stands beside --prompt-file"),
    (("http://127.0.0.1:9", "--body", "[1]"), "expected a JSON object"),
    (("http://127.0.0.1:9", "--api-key-file", "absent"), "absent: cannot be read"),
    (("http://127.0.0.1:9", "--requests", "3"), "does not answer"),
    (("http://u:p@127.0.0.1:9",), "holds a user or password"),
    (("http://127.0.0.1:9", "--trace", "absent.csv"), "absent.csv"),
])
def test_bad_input_is_one_line_and_leaves_nothing(penstock, folder, arguments, said) -> None:
    done = penstock("bench", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not [path for path in (folder / "runs").glob("*") if path.is_dir()]


def test_without_the_extra_it_is_named(penstock, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    for name in [name for name in sys.modules
                 if name.startswith(("penstock.experiment.load", "penstock.engines"))]:
        monkeypatch.delitem(sys.modules, name)
    done = penstock("bench", "http://127.0.0.1:9")
    assert done.status == 2
    assert "error: the package aiohttp is not installed; " in done.err


def test_runs_are_compared_measured_or_simulated(repository, folder, penstock) -> None:
    with emulated(repository, folder) as url:
        for name in ("one", "other"):
            assert penstock("bench", url, "--fleet", "fleet.yaml", *EASY, "--class-to-engine",
                            "--rate", "100", "--out", name, "--no-report").status == 0
    assert penstock("simulate", "fleet.yaml", "--out", "simulated", "--no-report").status == 0
    told = penstock("compare", "one", "other")
    assert told.status == 0
    assert "over the same requests" in told.out
    found = penstock("compare", "simulated", "one", "--json").json
    assert found["runs"] == ["simulated", "one"]
    assert found["classes"]["chat"]["num_requests"][0] == found["classes"]["chat"][
        "num_requests"][1]


@pytest.mark.parametrize(("arguments", "said"), [
    (("fleet.yaml",), "no --policies"), ((".",), "a single run"),
    (("absent", "fleet.yaml"), "absent"), ((".", "."), "appears twice"),
    ((".", "--policies", "fcfs"), "goes with a fleet file")])
def test_what_cannot_be_compared(penstock, arguments, said) -> None:
    done = penstock("compare", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


def test_through_the_gateway_classes_go_by_header(repository, folder, penstock) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    with emulated(repository, folder) as engine:
        command = [sys.executable, "-m", "penstock", "serve", "fleet.yaml", "--port", "0", "--set",
                   f"replicas[0].endpoints=[{engine}]"]
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True) as gateway:
            try:
                url = gateway.stdout.readline().split()[1]
                done = penstock("bench", url, "--fleet", "fleet.yaml", *EASY, "--rate", "100",
                                "--api", "chat", "--no-report", "--out", "run", "--json")
                with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
                    metrics = answer.read().decode()
            finally:
                gateway.terminate()
    assert done.status == 0
    assert done.json["outcomes"]["finished"] == 60
    for name, probes in (("chat", 2), ("batch", 0)):  # the probe names no class: the first has it
        labels = f'outcome="finished"[^}}]*service_class="{name}"'
        counted = re.search(rf"^penstock:requests_total{{[^}}]*{labels}[^}}]*}} (\S+)$", metrics,
                            re.MULTILINE)
        assert counted, metrics
        assert float(counted[1]) == done.json["classes"][name]["received"] + probes


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_keeps_what_came(repository, folder, penstock, monkeypatch) -> None:
    store = str(folder / "runs.db")
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), "PENSTOCK_RUNS": store}
    with emulated(repository, folder) as url:
        command = [sys.executable, "-m", "penstock", "bench", url, "--rate", "50", "--requests",
                   "100000", "--output-tokens", "4", "--out", "cut", "--no-report"]
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            while sum(_served(url)) < 20:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the run was interrupted" in " ".join(out.lower().split())
    kept = penstock("lab", "report", "cut", "--json").json
    assert kept["outcomes"]["sent"] >= kept["outcomes"]["finished"] > 10
    monkeypatch.setenv("PENSTOCK_RUNS", store)
    assert penstock("runs", "show", "cut", "--json").json["status"] == "interrupted"


def _served(url: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        return [float(value) for value in re.findall(
            r"^vllm:request_success_total{.*} (\S+)$", answer.read().decode(), re.MULTILINE)]
