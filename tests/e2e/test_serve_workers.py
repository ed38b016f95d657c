"""``penstock serve --workers``: one gateway to everybody, and the death of a worker."""

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from support.penstock_process import process
from support.worker_processes import children, lives

PATIENCE_S = 60.0
on_linux = pytest.mark.skipif(not Path("/proc/self/task").exists(),
                              reason="finds processes as on Linux")
SHOP = """\
gateway:
  tenants: [{name: shop, requests_per_minute: 10}]
"""


def got(url, body=None, key=None):
    """Status, headers and JSON of an answer, over a connection of its own."""
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(),
                                     headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            text = answer.read()
            return answer.status, answer.headers, text if url.endswith("metrics") \
                else json.loads(text)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def ask(url, key=None):
    return got(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 2, "ignore_eos": True}, key)


def until(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def num_finished(url):
    found = re.search(rb'^penstock:requests_total\{.*outcome="finished".*\} ([0-9.]+)$',
                      got(f"{url}/metrics")[2], re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


@pytest.fixture
def engine(repository, folder):
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000"
                 ) as one:
        yield one.stdout.readline().split()[1]


def serve(repository, folder, engine, *more):
    return process(repository, folder, "serve", "fleet.yaml", "--port", "0", "--workers", "2",
                   "--set", f"replicas[0].endpoints=[{engine}]", *more)


@on_linux
def test_whichever_worker_answers_knows_of_all(repository, folder, engine) -> None:
    with serve(repository, folder, engine) as keeper:
        word, url = keeper.stdout.readline().split()
        assert word == "gateway"
        decisions = [ask(url)[1]["X-Penstock-Decision"] for _ in range(12)]
        assert [num_finished(url) for _ in range(4)] == [12] * 4
        for one in decisions:
            status, _, document = got(f"{url}/v1/penstock/decisions/{one}")
            assert (status, document["decision_id"]) == (200, one)
        assert got(f"{url}/v1/penstock/decisions/dec-none")[0] == 404
        told = [got(f"{url}/v1/penstock/status")[2] for _ in range(4)]
        assert {(one["workers"], one["engines"][0]["num_served"],
                 one["classes"][0]["outcomes"]["finished"]) for one in told} == {(2, 12, 12)}

        order = {"url": engine, "drain": True}
        assert got(f"{url}/v1/penstock/engines/drain", order)[2]["draining"] is True
        assert [ask(url)[0] for _ in range(6)] == [503] * 6
        before = children(keeper.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        until(lambda: before[0] not in children(keeper.pid) and len(children(keeper.pid)) == 2)
        until(lambda: got(f"{url}/v1/penstock/status")[2]["workers"] == 2)
        assert num_finished(url) == 12  # what a worker has counted outlives it
        assert [ask(url)[0] for _ in range(6)] == [503] * 6  # also by the worker that is new
        got(f"{url}/v1/penstock/engines/drain", {**order, "drain": False})
        assert [ask(url)[0] for _ in range(6)] == [200] * 6

        workers = children(keeper.pid)
        keeper.send_signal(signal.SIGTERM)
        out, err = keeper.communicate(timeout=PATIENCE_S)
        assert (keeper.returncode, out) == (0, "")
        assert re.search(r"^worker \d has ended with status -9, and starts again$", err,
                         re.MULTILINE)
        assert not any(lives(pid) for pid in workers)


@on_linux
def test_a_limit_holds_over_all_workers(repository, folder, engine, penstock) -> None:
    path = folder / "fleet.yaml"
    path.write_text(path.read_text() + SHOP)
    key = penstock("keys", "create", "fleet.yaml", "shop").out.strip()
    admin = penstock("keys", "create", "fleet.yaml", "--admin").out.strip()
    with serve(repository, folder, engine) as keeper:
        url = keeper.stdout.readline().split()[1]
        begun_s = time.monotonic()
        statuses = [ask(url, key)[0] for _ in range(30)]
        # Rates are refilled: a slow machine may admit one more each six seconds.
        assert 10 <= statuses.count(200) <= 11 + (time.monotonic() - begun_s) / 6.0
        assert set(statuses) == {200, 429}
        assert got(f"{url}/v1/penstock/status")[0] == 401
        _, _, status = got(f"{url}/v1/penstock/status", key=admin)
        assert status["workers"] == 2
        shop, = (one for one in status["tenants"] if one["tenant"] == "shop")
        assert sum(shop["refused"].values()) == statuses.count(429)


@on_linux
def test_workers_end_with_their_keeper(repository, folder, engine) -> None:
    with serve(repository, folder, engine) as keeper:
        assert keeper.stdout.readline()
        workers = children(keeper.pid)
        assert len(workers) == 2
        keeper.kill()
        until(lambda: not any(lives(pid) for pid in workers))


@pytest.mark.parametrize(("settings", "told"), [
    (["--set", "policies.scale=penstock", "--set", "scaling.start_s=9"], "policies.scale"),
    (["--set", "replicas[0].engine=emulated"], "replicas[0], whose engine is started"),
    (["--set", "replicas[0].endpoints=[http://127.0.0.1:9]", "--deployments", "."],
     "--deployments"),
])
def test_what_one_process_alone_can_do_is_said(folder, penstock, settings, told) -> None:
    ran = penstock("serve", "fleet.yaml", "--workers", "2", *settings)
    assert ran.status == 2
    assert "one process alone must serve with" in ran.err
    assert told in ran.err
