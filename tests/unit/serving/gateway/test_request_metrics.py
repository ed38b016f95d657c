"""Counts of ended requests are metrics as Prometheus's own client writes them."""

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from penstock.serving.gateway.request_metrics import _BOUNDS_S, OUTCOMES, RequestMetrics

LABELS = {"model_name": 'm"x', "service_class": "chat"}
ENDS = (("finished", 9, 14, 0.005, 0.3, True), ("finished", 1, 2, None, 1000.0, False),
        ("shed", 0, 0, None, 0.0, False), ("cancelled", 5, 0, 0.26, 2.0, None))


def counted(metrics):
    for outcome, prompt, output, ttft_s, e2e_s, is_met in ENDS:
        metrics.of(*LABELS.values()).add(outcome, prompt, output, ttft_s, e2e_s, is_met=is_met)


def lines(registry):
    return {line for line in generate_latest(registry).decode().splitlines()
            if "_created" not in line}


def test_the_text_is_that_of_prometheus_own_classes() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    metrics = RequestMetrics()
    ours.register(metrics)
    counted(metrics)
    names = tuple(LABELS)
    requests = Counter("penstock:requests", "Requests by how they ended", (*names, "outcome"),
                       registry=theirs)
    for outcome, number in zip(OUTCOMES, (2, 0, 0, 0, 1, 1), strict=True):
        requests.labels(**LABELS, outcome=outcome).inc(number)
    for name, about, number in (
            ("penstock:prompt_tokens", "Prompt tokens of answered requests", 15),
            ("penstock:generation_tokens", "Output tokens passed on", 16),
            ("penstock:requests_in_time", "Requests that met every target of their class", 1)):
        Counter(name, about, names, registry=theirs).labels(**LABELS).inc(number)
    for name, values in (("penstock:time_to_first_token_seconds", (0.005, 0.26)),
                         ("penstock:e2e_request_latency_seconds", (0.3, 1000.0))):
        own = Histogram(name, "At the gateway", names, buckets=_BOUNDS_S, registry=theirs)
        for value in values:
            own.labels(**LABELS).observe(value)
    assert lines(ours) == lines(theirs)


def test_a_class_that_answered_nothing_has_all_its_series() -> None:
    registry, metrics = CollectorRegistry(), RequestMetrics()
    registry.register(metrics)
    metrics.of("m", "c")
    text = generate_latest(registry).decode()
    assert all(f'outcome="{outcome}",service_class="c"}} 0.0' in text for outcome in OUTCOMES)
    assert 'request_latency_seconds_bucket{le="+Inf",model_name="m",service_class="c"} 0.0' in text
