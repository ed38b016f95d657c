"""Metrics of several workers are those of one server."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.server import gateway_config
from penstock.serving.tenants.gate import TenantGate
from penstock.serving.tenants.metrics import TenantMetrics
from penstock.serving.workers.summed_metrics import SUMMED_GAUGES, summed
from support.picker_streams import SmallPool


def worker(requests: int, running: int, ready: int, seconds: list[float]) -> str:
    registry = CollectorRegistry()
    Counter("penstock:requests", "Requests", ("model_name",),
            registry=registry).labels("m\"x").inc(requests)
    Gauge("llm_d_epp_request_running", "Running", registry=registry).set(running)
    Gauge("llm_d_epp_ready_endpoints", "Ready", registry=registry).set(ready)
    took = Histogram("took_seconds", "Time", buckets=(0.1, 1.0), registry=registry)
    for one in seconds:
        took.observe(one)
    return generate_latest(registry).decode()


def values(text: str) -> dict[str, float]:
    return {one.name + "".join(f" {k}={v}" for k, v in sorted(one.labels.items())): one.value
            for family in text_string_to_metric_families(text) for one in family.samples
            if not one.name.endswith("_created")}


def test_counts_are_summed_and_views_of_the_pool_are_not() -> None:
    found = values(summed([worker(3, 1, 9, [0.05, 0.5]), worker(4, 2, 10, [0.5, 7.0])]))
    assert found == {
        'penstock:requests_total model_name=m"x': 7.0, "llm_d_epp_request_running": 3.0,
        "llm_d_epp_ready_endpoints": 10.0, "took_seconds_bucket le=0.1": 1.0,
        "took_seconds_bucket le=1.0": 3.0, "took_seconds_bucket le=+Inf": 4.0,
        "took_seconds_count": 4.0, "took_seconds_sum": pytest.approx(8.05)}


def test_what_a_dead_worker_has_counted_stays_and_its_gauges_go() -> None:
    dead = summed([], [worker(3, 1, 11, [0.05]), worker(2, 1, 11, [])])
    assert "running" not in dead
    found = values(summed([worker(4, 2, 10, [])], [dead]))
    assert found['penstock:requests_total model_name=m"x'] == 9.0
    assert found["llm_d_epp_request_running"] == 2.0
    assert found["llm_d_epp_ready_endpoints"] == 10.0
    assert found["took_seconds_count"] == 1.0


def test_every_summed_gauge_is_one_of_the_pickers_or_gateways() -> None:
    pool = SmallPool()
    gateway = pool.books.gateway
    gateway.add(TenantMetrics(TenantGate(gateway_config(pool.fleet, Limits()), None, lambda: 0.0,
                                         lambda: 0.0)))
    gauges = {one.name for one in text_string_to_metric_families(gateway.text().decode())
              if one.type == "gauge"}
    assert gauges >= SUMMED_GAUGES
