"""Rules of a pool: which rewrite counts, its weights, and the priorities of objectives."""

from collections import Counter

import orjson
import pytest

from penstock.engines.http_body import JsonBody
from penstock.serving.endpoint_picker.head import Head
from penstock.serving.endpoint_picker.pool_rules import NO_RULES, PoolRules, rules_of
from penstock.serving.endpoint_picker.wishes import read_wish
from penstock.serving.gateway.server import offer_of
from penstock.serving.kubernetes.objects import Target, inference_objective, model_rewrite
from support.picker_streams import MODEL, SmallPool

OFFER = offer_of(SmallPool(service_classes=[
    {"name": "chat", "priority": 1, "slo": {"ttft_s": 2.0, "itl_s": 0.05}},
    {"name": "batch", "priority": 4, "slo": {"e2e_s": 300.0}}],
    traffic=[{"lengths": {"prompt": {"fixed": 300}, "output": {"fixed": 4}}, "rate_per_s": 1.0,
              "num_requests": 9, "mix": {"chat": 0.5, "batch": 0.5}}]).fleet)


def rewrite(name, *rules, pool="llama", created="2026-11-24T10:00:00Z"):
    """A rewrite of rules, each the models that match and the targets, with or without weights."""
    return model_rewrite({
        "kind": "InferenceModelRewrite",
        "metadata": {"name": name, "namespace": "ns", "creationTimestamp": created},
        "spec": {"poolRef": {"name": pool}, "rules": [
            {"matches": [{"model": {"type": "Exact", "value": one}} for one in models],
             "targets": [{"modelRewrite": target, **({} if weight is None else {"weight": weight})}
                         for target, weight in targets.items()]} for models, targets in rules]}})


def rules(*rewrites):
    return rules_of("llama", [], rewrites)


def test_a_name_comes_before_every_name_then_the_oldest_object_then_the_first_rule():
    found = rules(
        rewrite("b", ([], {"any-young": None}), (["m"], {"young": None}),
                created="2026-11-25T10:00:00Z"),
        rewrite("c", ([], {"any": None}), (["m", "n"], {"first": None}), (["m"], {"second": None})),
        rewrite("a", (["m"], {"alien": None}), pool="another"))
    assert [found.rewritten(name, "1") for name in ("m", "n", "o")] == ["first", "first", "any"]


def test_without_rules_every_model_stays():
    assert NO_RULES.rewritten("m", "1") == "m"
    assert rules(rewrite("a", (["n"], {"x": None}), (["m"], {}))).rewritten("m", "1") == "m"


@pytest.mark.parametrize(("targets", "share"), [
    ({"old": 90, "new": 10}, 0.1), ({"old": 1, "new": 3}, 0.75), ({"old": None, "new": None}, 0.5)])
def test_targets_get_their_shares_and_a_request_the_same_target_again(targets, share):
    found = rules(rewrite("a", (["m"], targets)))
    ids = [f"request-{number}" for number in range(4000)]
    chosen = [found.rewritten("m", one) for one in ids]
    assert Counter(chosen)["new"] / len(ids) == pytest.approx(share, abs=0.03)
    assert chosen == [found.rewritten("m", one) for one in ids]


def wish(known, objective=None, model=MODEL, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if objective is not None:
        headers["x-llm-d-inference-objective"] = objective
    body = orjson.dumps({"model": model, "prompt": "x"})
    return read_wish(JsonBody(orjson.loads(body), len(body)),
                     Head({":path": "/v1/completions", "x-request-id": "r", **headers}), OFFER,
                     known)


@pytest.mark.parametrize(("objective", "service_class", "priority"), [
    (None, "chat", 0), ("unknown", "chat", 0), ("batch", "batch", -3),  # without an object
    ("urgent", "chat", 10), ("low", "batch", -10), ("lower-half", "batch", -2),
    ("upper-half", "chat", -1), ("chat", "chat", -5)])
def test_an_objective_has_the_priority_of_its_object_and_the_nearest_class(
        objective, service_class, priority):
    known = PoolRules({"urgent": 10, "low": -10, "lower-half": -2, "upper-half": -1, "chat": -5})
    found = wish(known, objective)
    assert (found.ask.service_class.name, found.priority) == (service_class, priority)


def test_penstocks_own_header_names_the_class_and_the_object_the_priority():
    found = wish(PoolRules({"low": -10}), "low", x_penstock_class="chat")
    assert (found.ask.service_class.name, found.priority) == ("chat", -10)


def test_an_objective_without_a_priority_has_0():
    document = {"kind": "InferenceObjective", "metadata": {"name": "o", "namespace": "ns"},
                "spec": {"poolRef": {"name": "llama"}}}
    assert rules_of("llama", [inference_objective(document)], []).priorities == {"o": 0}


def test_a_rewritten_model_goes_to_the_engine_and_the_client_keeps_its_name():
    known = PoolRules(targets={"canary": (Target(MODEL, 1),)})
    found = wish(known, model="canary")
    assert (found.model, found.ask.body["model"], found.is_changed) == ("canary", MODEL, True)


def test_a_header_comes_before_the_rules():
    known = PoolRules(other_targets=(Target("none-such", 1),))
    found = wish(known, model="x", x_llm_d_model_name_rewrite=MODEL)
    assert found.ask.body["model"] == MODEL
