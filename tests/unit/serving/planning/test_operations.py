import copy
import json
from contextlib import redirect_stdout
from io import StringIO

import pytest

from penstock.cli.main import main
from penstock.published.inferno.export import solution
from penstock.published.inferno.operations import EXAMPLE, optimize_one
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import settings_of, solve
from penstock.serving.planning.openapi import docs_page, openapi_document
from penstock.serving.planning.operations import OPERATIONS
from penstock.serving.planning.queue import EXAMPLE as QUEUE
from support.inferno_bundles import document, server

BY_PATH = {operation.path: operation for operation in OPERATIONS}


def call(path, body):
    return BY_PATH[path].call(body)


@pytest.mark.parametrize("path", BY_PATH)
def test_every_example_works_and_has_what_is_described(path) -> None:
    operation = BY_PATH[path]
    answer = operation.call(copy.deepcopy(operation.example))
    assert answer.status == 200
    assert set(operation.response["properties"]) <= set(answer.document)
    assert set(operation.example) <= set(operation.request["properties"])


@pytest.mark.parametrize("path", BY_PATH)
@pytest.mark.parametrize("body", [None, [], 3, "text", {}])
def test_no_operation_fails_on_another_shape(path, body) -> None:
    answer = call(path, body)
    assert answer.status == 400
    assert "\n" not in answer.document["message"]


def test_optimize_one_is_the_bundles_own_plan() -> None:
    bundle = parse_bundle(document(), "body")
    assert call("/optimizeOne", document()).document == solution(
        solve(bundle, settings_of(bundle.options)))


def test_a_server_without_allocation_is_404_in_the_second_schema_only() -> None:
    def broken(schema):
        made = document(schema)
        server(made, "Free-small")["class"] = "none"
        return optimize_one(made)
    answer = broken("v2")
    assert (answer.status, answer.document["message"]) == (
        404, "no feasible allocation for servers: [Free-small]")
    assert len(broken("v1").document["allocations"]) == 3


def test_an_infeasible_program_is_404() -> None:
    made = document("v1")
    made["system"]["optimizerData"]["optimizer"] = {"milpSolver": True}
    made["system"]["capacityData"]["count"] = []
    assert optimize_one(made).status == 404


# Published: queue-analysis, golden scenario "baseline".
BASELINE = EXAMPLE | {"maxBatchSize": 256}


def test_the_published_baseline() -> None:
    found = call("/optimize", BASELINE).document
    assert (found["concurrency"], found["M_ITL"], found["M_TPF"], found["oracleCalls"]) == (
        67, 40, 147, 8)
    assert found["throughput"] == pytest.approx(1.9037623, rel=1e-5)
    sized = call("/target", BASELINE).document
    assert sized["RPSTargetITL"] == pytest.approx(1.92298, rel=1e-4)
    assert sized["avgITL"] == pytest.approx(20.0, rel=1e-4)


def test_keys_of_the_followed_endpoints_match_in_any_case() -> None:
    loud = {key.upper(): value for key, value in EXAMPLE.items()} | {"Comment": "ignored"}
    assert call("/solve", loud) == call("/solve", EXAMPLE)


def test_own_endpoints_answer_as_the_followed_ones() -> None:
    ours = call("/v1/queue/optimize", QUEUE | {"max_batch": 256, "targets": {
        "ttft_ms": 60, "itl_ms": 20}}).document
    theirs = call("/optimize", BASELINE).document
    assert ours["max_batch"] == theirs["concurrency"]
    assert ours["throughput_per_s"] == pytest.approx(theirs["throughput"])


def test_what_cannot_be_met_is_an_answer_of_its_own_endpoint() -> None:
    answer = call("/v1/queue/size", QUEUE | {"targets": {"itl_ms": 1}})
    assert answer.status == 200
    assert not answer.document["feasible"]
    assert "ITL target of 1 ms" in answer.document["reason"]
    assert call("/target", EXAMPLE | {"targetITL": 1}).status == 400


def test_first_generation_of_parameters() -> None:
    times = {"alpha_ms": 19, "beta_ms": 1, "delta_ms": 0.01}
    body = QUEUE | {"times": times, "rate_per_s": 0.3}
    assert call("/v1/queue/solve", body).document["itl_ms"] > 20
    both = QUEUE | {"times": times | {"max_step_tokens": 512}, "rate_per_s": 0.3}
    assert "expected one of them" in call("/v1/queue/solve", both).document["message"]


@pytest.mark.parametrize(("change", "message"), [
    ({"mode": "own"}, "mode: found 'own'; expected one of: inferno, penstock"),
    ({"mode": None}, "mode: found nothing; expected one of"),
    ({"mode": ["inferno"]}, "mode: found a list"),
    ({"mod": "inferno"}, "body: mod: unknown key; did you mean 'mode'?"),
    ({"times": {"alpha_ms": 8}}, "body: times.beta_ms: missing; this key is required"),
    ({"times": {"alpha": 8}}, "body: times.alpha: unknown key; did you mean 'alpha_ms'?"),
    ({"times": 3}, "times: expected a mapping, found 3; its keys: alpha_ms, beta_ms"),
    ({"times": [3]}, "times: expected a mapping, found a list; its keys: alpha_ms"),
    ({"times": None}, "times: expected a mapping, found nothing; its keys: alpha_ms"),
    ({"max_batch": 2.5}, "max_batch: expected a whole number, found 2.5"),
    ({"max_batch": 10**9}, "body: max_batch: expected at most 20,000, found 1000000000"),
    ({"max_batch": 20_001}, "body: max_batch: expected at most 20,000, found 20001"),
    ({"max_batch": 0}, "body: max_batch: expected at least 1, found 0"),
    ({"output_tokens": 0}, "body: output_tokens: expected at least 1, found 0"),
    ({"input_tokens": -1}, "body: input_tokens: expected at least 0, found -1"),
    ({"times": {"alpha_ms": -1, "beta_ms": 1}},
     "body: times.alpha_ms: expected at least 0, found -1"),
    ({"rate_per_s": 0}, "body: rate_per_s: found 0; expected a positive number"),
    ({"rate_per_s": 1e-300}, "body: rate_per_s: found 1e-300; expected a positive number"),
    ({"rate_per_s": 1e308}, "body: rate_per_s: expected at most 1,000,000,000, found 1e+308"),
    ({"rate_per_s": 1e9}, "body: rate_per_s: found 1e+09 per second; too far above the limit"),
    ({"rate_per_s": None}, "rate_per_s: expected a number, found nothing"),
    ({"rate_per_s": []}, "rate_per_s: expected a number, found a list"),
    ({"kv_tokens": 9000}, "body: kv_tokens: only mode penstock has it"),
    ({"output_scv": 1}, "body: output_scv: only mode penstock has it"),
    ({"mode": "penstock"}, "body: max_queue: only mode inferno has it"),
    ({"rate_per_s": "1"}, "rate_per_s: expected a number, found '1'"),
    ({"rate_per_s": True}, "rate_per_s: expected a number, found true"),
])
def test_bad_queues(change, message) -> None:
    answer = call("/v1/queue/solve", QUEUE | {"rate_per_s": 1.0} | change)
    assert answer.status == 400
    assert message in answer.document["message"]


OWN = {name: value for name, value in QUEUE.items() if name not in ("mode", "max_queue")}


@pytest.mark.parametrize(("change", "message"), [
    ({"kv_tokens": 500}, "body: kv_tokens: found 500; a request needs 1280 tokens"),
    ({"times": OWN["times"] | {"max_step_tokens": 1}},
     "body: times.max_step_tokens: found 1; expected at least 2"),
    ({"arrivals_scv": -1}, "body: arrivals_scv: expected at least 0, found -1"),
    ({"targets": {"ttft_ms": 0}}, "body: targets.ttft_ms: found 0; expected more than 0"),
    ({"targets": {"tokens_per_s": 0}},
     "body: targets.tokens_per_s: found 0; expected more than 0"),
    ({"targets": {"percentile": 100}},
     "body: targets.percentile: expected less than 100, found 100"),
    ({"targets": {"percentil": 99}},
     "body: targets.percentil: unknown key; did you mean 'percentile'?"),
    ({"targets": None}, "body: targets: expected a mapping, found nothing; its keys: itl_ms"),
    ({"targets": {"percentile": 99}, "mode": "inferno"},
     "body: targets.percentile: only mode penstock"),
])
@pytest.mark.parametrize("path", ["/v1/queue/size", "/v1/queue/optimize"])
def test_bad_queues_of_the_default_mode(path, change, message) -> None:
    answer = call(path, OWN | {"targets": {"ttft_ms": 60}} | change)
    assert answer.status == 400
    assert message in answer.document["message"]


def test_the_default_mode_is_that_of_the_command_line() -> None:
    """Percentiles and KV memory, in the words of ``penstock lab queue --json``."""
    options = ["--alpha", "8", "--beta", "0.033", "--gamma", "0.000333", "--input-tokens", "256",
               "--output-tokens", "1024", "--max-batch", "64", "--kv-tokens", "20000",
               "--prompt-scv", "0.5", "--json"]
    body = OWN | {"kv_tokens": 20_000, "prompt_scv": 0.5}
    targets = {"ttft_ms": 60, "itl_ms": 20, "percentile": 99}
    bounds = ["--ttft-ms", "60", "--itl-ms", "20", "--percentile", "99"]
    for name, more, given in (("solve", {"rate_per_s": 1.0}, ["--rate", "1"]),
                              ("size", {"targets": targets}, bounds),
                              ("optimize", {"targets": targets}, bounds)):
        found = call(f"/v1/queue/{name}", body | more)
        assert found.status == 200
        with redirect_stdout(StringIO()) as printed:
            assert main(["lab", "queue", name, *options, *given]) == 0
        assert found.document == json.loads(printed.getvalue())
        assert found.document["ttft_percentiles_ms"]["99"] > found.document["ttft_ms"]
    roomy = call("/v1/queue/size", OWN | {"targets": targets}).document
    assert roomy["slots"] > call("/v1/queue/size", body | {"targets": targets}).document["slots"]


@pytest.mark.parametrize(("change", "message"), [
    ({"maxBatchSize": 0}, "body: maxBatchSize: found 0; expected at least 1"),
    ({"alpha": -1}, "body: alpha: found -1; expected at least 0"),
    ({"RPS": 0}, "body: RPS: found 0; expected a positive number"),
    ({"RPS": 1e308}, "body: RPS: found 1e+308; expected a number up to 1000000000"),
    ({"RPS": 1e9}, "body: RPS: found 1e+09 per second; too far above the limit of stability"),
    ({"avgOutputTokens": 0}, "body: avgOutputTokens: found 0; expected at least 1"),
    ({"maxBatchSize": 20_001}, "body: maxBatchSize: found 20001; expected a whole number up to 2"),
    ({"maxQueueSize": 10**9}, "body: maxQueueSize: found 1000000000; expected"),
    ({"beta": "x"}, "body: beta: found 'x'; expected a number"),
    ({"beta": True}, "body: beta: found true; expected a number")])
def test_bad_problems_of_the_followed_endpoints(change, message) -> None:
    answer = call("/solve", EXAMPLE | change)
    assert answer.status == 400
    assert message in answer.document["message"]


def test_the_description_names_every_operation() -> None:
    described = openapi_document(OPERATIONS)
    assert set(described["paths"]) == set(BY_PATH)
    identifiers = [entry["post"]["operationId"] for entry in described["paths"].values()]
    assert len(set(identifiers)) == len(identifiers)
    assert "404" in described["paths"]["/optimizeOne"]["post"]["responses"]


def test_the_page_needs_no_network_and_no_script() -> None:
    page = docs_page(OPERATIONS)
    assert all(path in page for path in BY_PATH)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
