"""The ledger with real processes: a gateway that is killed, and a disk that is full."""

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from support.penstock_process import process
from support.reconciled import differences

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

TENANTS = """
gateway:
  tenants:
    - {name: shop, budget: {amount: 100, per: total}}
    - {name: lenient, budget: {amount: 100, per: total, when_ledger_fails: serve}}
"""
INPUT, OUTPUT = 2_000, 5_000  # nanos per token
PROMPT = [1] * 10


@pytest.fixture
def home(repository, folder, penstock):
    """A folder with a fleet, its tenants' keys, and an emulated engine that runs."""
    text = (folder / "fleet.yaml").read_text()
    (folder / "fleet.yaml").write_text(text.replace(
        "name: llama-3-8b}", "name: llama-3-8b, price: {input_per_million: 2, "
                             "output_per_million: 5}}") + TENANTS)
    keys = {name: penstock("keys", "create", "fleet.yaml", name, "--json").json["key"]
            for name in ("shop", "lenient")}
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "20"
                 ) as engine:
        yield repository, folder, keys, engine.stdout.readline().split()[1]


@contextmanager
def gateway(repository, folder, engine):
    with process(repository, folder, "serve", "fleet.yaml", "--port", "0", "--set",
                 f"replicas[0].endpoints={json.dumps([engine])}") as front:
        line = front.stdout.readline().split()
        assert line[:1] == ["gateway"], front.stderr.read()
        yield front, line[1]


class Stream:
    """One streamed answer: its decision, tokens seen, and whether its end was seen."""

    def __init__(self, url, key, max_tokens):
        self.max_tokens = max_tokens
        self.decision, self.tokens, self.done, self.status = None, 0, False, None
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._body = json.dumps({"prompt": PROMPT, "max_tokens": max_tokens, "ignore_eos": True,
                                 "stream": True})
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def run(self):
        try:
            self._connection.request("POST", "/v1/completions", self._body, self._headers)
            answer = self._connection.getresponse()
            self.status = answer.status
            self.decision = answer.headers.get("X-Penstock-Decision")
            self.error = None if self.status == 200 else json.load(answer)["error"]
            while self.status == 200 and (line := answer.readline()):
                self.tokens += b'"text"' in line
                self.done = self.done or line.strip() == b"data: [DONE]"
        except (OSError, http.client.HTTPException):
            pass  # the gateway is gone
        finally:
            self._connection.close()
        return self


def read(folder, query):
    with sqlite3.connect(folder / "fleet.ledger.db") as connection:
        return connection.execute(query).fetchall()


def cost(output_tokens):
    return len(PROMPT) * INPUT + output_tokens * OUTPUT


def test_a_killed_gateway_charges_every_finished_answer_once_and_no_token_twice(home) -> None:
    repository, folder, keys, engine = home
    streams, stop = [], threading.Event()

    def client(url, lengths):
        while not stop.is_set():
            for length in lengths:
                streams.append(Stream(url, keys["shop"], length))
                streams[-1].run()

    with gateway(repository, folder, engine) as (front, url):
        clients = [threading.Thread(target=client, args=(url, lengths))
                   for lengths in [(3, 40, 9)] * 6 + [(7000,)] * 3]
        for one in clients:
            one.start()
        deadline_s = time.monotonic() + 120
        while sum(one.done for one in streams) <= 20 or len(read(
                folder, "select 1 from penstock_open where output_tokens > 0")) < 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        stop.set()
        front.send_signal(signal.SIGKILL)
        front.wait(30)
    for one in clients:
        one.join(60)
    finished = {s.decision: s for s in streams if s.done}
    broken = {s.decision: s for s in streams if s.decision and not s.done}
    assert len(finished) > 20
    assert len(broken) >= 3
    journaled = dict(read(folder, "select decision_id, output_tokens from penstock_open"))

    with gateway(repository, folder, engine) as (front, url):
        one = Stream(url, keys["shop"], 5).run()
        assert one.done
        front.send_signal(signal.SIGTERM)
        _, err = front.communicate(timeout=60)
    finished[one.decision] = one
    assert f"ledger: {len(journaled)} requests of a gateway that died were charged" in err
    rows = {row[0]: row[1:] for row in read(
        folder, "select decision_id, output_tokens, charged_nanos, resolved from penstock_charges")}
    for name, stream in finished.items():
        assert stream.tokens == stream.max_tokens
        assert rows[name] == (stream.tokens, cost(stream.tokens), 0)
    for name, tokens in journaled.items():
        assert rows[name] == (tokens, cost(tokens) if tokens else 0, 1)
        assert name not in broken or tokens <= broken[name].tokens + 64, "what a socket may hold"
    # Whoever was charged and saw no end: the charge was written, the end was on its way; so was the
    # name of the decision, where a short answer goes out in one piece with its head.
    nameless = sum(s.decision is None for s in streams)
    assert len(rows.keys() - finished.keys() - journaled.keys() - broken.keys()) <= nameless
    assert read(folder, "select count(*) from penstock_open") == [(0,)]
    assert read(folder, "select sum(charged_nanos) from penstock_spend") == [
        (sum(row[1] for row in rows.values()),)]
    assert differences(f"sqlite:///{folder}/fleet.ledger.db") == []


def test_a_full_disk_stops_who_must_not_be_served_unwritten_and_nobody_else(home) -> None:
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process cannot be set here")
    repository, folder, keys, engine = home
    served = []

    def ask(url, who):
        stream = Stream(url, keys[who], 4).run()
        if stream.done:
            served.append(stream)
        return stream

    with gateway(repository, folder, engine) as (front, url):
        assert ask(url, "shop").done
        # No file of the gateway may grow beyond this any more: the disk is full.
        resource.prlimit(front.pid, resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        deadline_s = time.monotonic() + 60
        while (refused := ask(url, "shop")).status == 200:
            assert time.monotonic() < deadline_s
        assert refused.status == 503
        assert refused.error["code"] == "ledger_unavailable"
        assert "spending cannot be written down now" in refused.error["message"]
        assert ask(url, "lenient").done
        before = len(read(folder, "select 1 from penstock_charges"))
        assert before < len(served)
        resource.prlimit(front.pid, resource.RLIMIT_FSIZE,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        while ask(url, "shop").status != 200:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        front.send_signal(signal.SIGTERM)
        _, err = front.communicate(timeout=60)
        assert front.returncode == 0
        assert "ledger: spending cannot be written now" in err
        assert err.endswith("ledger: spending is written again\n")
    rows = dict(read(folder, "select decision_id, charged_nanos from penstock_charges"))
    assert rows == {stream.decision: cost(4) for stream in served}
    assert read(folder, "select sum(charged_nanos) from penstock_spend") == [
        (cost(4) * len(served),)]
    assert differences(f"sqlite:///{folder}/fleet.ledger.db") == []


def test_requests_with_idempotency_keys_are_charged_once_although_gateways_are_killed(home) -> None:
    repository, folder, keys, engine = home
    url, statuses, stop_s = [], {}, time.monotonic() + 120

    def ask(name):
        """One request, sent until it is answered or known to be charged."""
        body = json.dumps({"prompt": PROMPT, "max_tokens": 9, "ignore_eos": True,
                           "stream": name % 2 == 0})
        while time.monotonic() < stop_s and statuses.get(name) != "done":
            time.sleep(0.02)
            if not url:
                continue
            connection = http.client.HTTPConnection(urlsplit(url[0]).netloc, timeout=60)
            try:
                connection.request("POST", "/v1/completions", body, {
                    "Authorization": f"Bearer {keys['shop']}", "Content-Type": "application/json",
                    "Idempotency-Key": f"key {name}"})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200 or b'"already_answered"' in said:
                    statuses[name] = "done"
            except (OSError, http.client.HTTPException):
                pass  # the gateway is gone
            finally:
                connection.close()

    clients = [threading.Thread(target=ask, args=(name,)) for name in range(60)]
    for one in clients:
        one.start()
    for number in range(4):
        with gateway(repository, folder, engine) as (front, place):
            url[:] = [place]
            if number == 3:
                for one in clients:
                    one.join(120)
                front.send_signal(signal.SIGTERM)
                front.communicate(timeout=60)
            else:
                time.sleep(0.4)
                url.clear()
                front.send_signal(signal.SIGKILL)
                front.wait(30)
    assert len(statuses) == 60
    assert read(folder, "select count(*) from penstock_charges where output_tokens > 0") == [(60,)]
    assert read(folder, "select count(*), count(charged_nanos) from penstock_repeats") == [(60, 60)]
    assert differences(f"sqlite:///{folder}/fleet.ledger.db") == []
