"""Series of engines: the queries, and the figures of each replica."""

import pytest

from penstock.fleet.values_observe import PrometheusOptions
from penstock.serving.scaling.engine_series import (
    Key,
    arrivals_query,
    counters_by_model,
    down_query,
    engines_query,
    read_figures,
)
from penstock.serving.scaling.prometheus import Sample

OPTIONS = PrometheusOptions("http://p", "llm", arrivals='requests_total{route="a"}', stale_s=30.0)


def sample(name, value, at_s=10.0, **labels):
    return Sample({"__name__": name, "model_name": "m", "pod": "a", "instance": "a:1", **labels},
                  at_s, value)


def test_queries_name_the_models_the_namespace_and_the_age():
    query = engines_query(OPTIONS, ['or/m-"1"', "n"])
    assert 'model_name=~"or/m\\\\-\\"1\\"|n"' in query
    assert query.endswith(',namespace="llm"}[30000ms]')
    assert "vllm:(num_requests_running|" in query
    assert "sglang:(num_running_reqs|" in query
    assert arrivals_query(OPTIONS) == 'requests_total{route="a"}[30000ms]'
    assert down_query(OPTIONS) == 'up{namespace="llm"} == 0'
    assert down_query(PrometheusOptions("http://p")) == "up{} == 0"


@pytest.mark.parametrize("prefix", [
    ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
     "vllm:request_success_total"),
    ("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage",
     "sglang:num_requests_total")])
def test_figures_are_those_of_the_engines_of_a_replica(prefix):
    running, waiting, kv, ends = prefix
    found = read_figures(OPTIONS, [
        sample(running, 3.0), sample(running, 2.0, engine="1"), sample(waiting, 1.0),
        sample(kv, 0.5), sample(ends, 7.0, finished_reason="stop"),
        sample(ends, 2.0, finished_reason="length"), sample(ends, 9.0, pod="b", instance="b:1")])
    assert set(found) == {Key("m", "a"), Key("m", "b")}
    one = found[Key("m", "a")]
    assert (one.load.num_running, one.load.num_waiting, one.load.kv_used_share) == (5, 1, 0.5)
    assert one.counters.num_finished == 9
    assert found[Key("m", "b")].load.num_running is None


def test_buckets_are_those_of_the_engine():
    found = read_figures(OPTIONS, [
        sample("vllm:request_success_total", 3.0),
        sample("vllm:time_to_first_token_seconds_bucket", 2.0, le="0.5"),
        sample("vllm:time_to_first_token_seconds_bucket", 3.0, le="+Inf"),
        sample("vllm:time_to_first_token_seconds_bucket", 9.0, le='1"} 5\nvllm:x'),
        sample("vllm:time_to_first_token_seconds_sum", 4.5)])
    ttft = found[Key("m", "a")].counters.ttft
    assert (ttft.num_up_to, ttft.sum_s) == ({0.5: 2.0, float("inf"): 3.0}, 4.5)


def test_missing_is_missing_and_never_zero():
    found = read_figures(OPTIONS, [
        sample("vllm:num_requests_running", float("nan")),
        sample("vllm:request_success_total", float("inf")),
        sample("vllm:num_requests_waiting", 0.0)])
    one = found[Key("m", "a")]
    assert (one.load.num_running, one.load.num_waiting, one.counters) == (None, 0, None)


def test_series_that_the_last_scrape_no_longer_has_do_not_count():
    found = read_figures(OPTIONS, [
        sample("vllm:num_requests_running", 9.0, at_s=5.0, engine="before"),
        sample("vllm:num_requests_running", 1.0),
        sample("vllm:num_requests_running", 2.0, at_s=8.0, instance="a:2")])
    one = found[Key("m", "a")]
    assert one.load.num_running == 3, "another target of the pod is scraped at another time"
    assert one.at_s == 8.0


def test_replicas_without_the_label_are_told_apart_by_instance():
    found = read_figures(OPTIONS, [
        Sample({"__name__": "vllm:num_requests_running", "model_name": "m", "instance": name},
               1.0, 1.0) for name in ("x:1", "y:1", "")])
    assert set(found) == {Key("m", "x:1"), Key("m", "y:1")}


def test_foreign_names_and_series_without_a_model_are_left_out():
    assert read_figures(OPTIONS, [sample("vllm:num_requests_running 7\nx", 1.0),
                                  sample("up", 1.0),
                                  sample("vllm:num_requests_running", 1.0, model_name="")]) == {}


def test_arrivals_count_to_their_model_or_to_the_only_one():
    plain = Sample({"__name__": "requests_total", "pod": "gw"}, 1.0, 5.0)
    named = Sample({"__name__": "requests_total", "model_name": "n"}, 1.0, 7.0)
    broken = Sample({"__name__": "requests_total", "model_name": "n", "x": "1"}, 1.0, float("nan"))
    one = counters_by_model(OPTIONS, [plain, broken], ["n"])
    assert list(one["n"].values()) == [5.0]
    several = counters_by_model(OPTIONS, [plain, named, broken], ["m", "n"])
    assert {model: list(values.values()) for model, values in several.items()} == {"n": [7.0]}
