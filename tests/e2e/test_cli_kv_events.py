"""`penstock serve` before `penstock emulate --kv-events`, as a user runs both."""

import json
import time
import urllib.request

import pytest

pytest.importorskip("zmq", reason="the extra 'kv-events' is not installed")
pytest.importorskip("msgspec", reason="the extra 'kv-events' is not installed")

from support.penstock_process import process

PROMPT = "the gate holds the water back " * 60
CACHING = ["--set", "engine.prefix_caching=true", "--set", "policies.route=prefix_aware"]


def get(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read()


def ask(url, **body):
    request = urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
        return response.headers.get("X-Penstock-Decision")


def followed(url):
    return json.loads(get(f"{url}/v1/penstock/status"))["kv_events"]


def wait_for(condition):
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_events_of_the_engines_decide_the_route(repository, folder) -> None:
    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000",
                 "--kv-events", "0", "--set", "replicas[0].count=2", *CACHING) as engines:
        lines = [engines.stdout.readline().split() for _ in range(2)]
        columns = [json.dumps([line[place] for line in lines]) for place in (1, 4, 5)]
        settings = [part for name, column in zip(("endpoints", "kv_events", "kv_replay"), columns,
                                                 strict=True)
                    for part in ("--set", f"replicas[0].{name}={column}")]
        urls = [line[1] for line in lines]
        ask(urls[1], prompt=PROMPT, max_tokens=2)  # by another client, before there is a gateway
        with process(repository, folder, "serve", "fleet.yaml", "--port", "0", "--set",
                     "replicas[0].count=2", *settings, *CACHING) as front:
            url = front.stdout.readline().split()[1]
            wait_for(lambda: all(one["is_whole"] for one in followed(url)))
            assert {one["url"]: one["num_blocks"] > 0 for one in followed(url)} == {
                urls[0]: False, urls[1]: True}
            decision = json.loads(get(f"{url}/v1/penstock/decisions/"
                                      + ask(url, prompt=PROMPT, max_tokens=2)))
            assert [one["url"] for one in decision["attempts"]] == [urls[1]]
            assert decision["terms"]["cached_tokens"] > 400
            metrics = get(f"{url}/metrics").decode()
            assert 'penstock:kv_prompts_total{tokens="tokenized"} 1.0' in metrics


def test_events_need_a_prefix_cache(penstock) -> None:
    outcome = penstock("emulate", "fleet.yaml", "--kv-events", "0")
    assert outcome.status == 2
    assert "--kv-events: the replicas cache no prefixes" in outcome.err
