from math import inf, nan

import pytest

from penstock.report.model import plan_reasons, plan_view
from support.plan_documents import candidate, plan_document
from support.small_plans import cards, document_of, planned


def test_cleaned_leaves_only_finite_numbers():
    assert plan_view.cleaned({"a": [inf, nan, 1.5, 2], "b": (-inf, "inf"), "c": None}) == {
        "a": [None, None, 1.5, 2], "b": [None, "inf"], "c": None}


def test_a_group_has_the_cards_cost_and_power_of_all_its_replicas():
    plan = plan_document()
    small, big, huge = plan_view.groups(plan)
    assert small == [plan_view.Group("l4-tp2-fp8", 2, 4, 6, 2.0, 600.0)]
    assert big[0].available is None
    assert huge == []


def test_a_group_of_an_unknown_variant_has_a_name_and_a_number():
    plan = plan_document(candidates=[])
    assert plan_view.groups(plan)[0] == [
        plan_view.Group("l4-tp2-fp8", 2, None, None, None, None)]


def test_cards_without_a_limit_have_no_total():
    plan = plan_document()
    assert plan_view.accelerators_used(plan) == (5, None)
    assert plan_view.accelerators_used({"cards": plan["cards"][:1]}) == (4, 6)


@pytest.mark.parametrize(("worst", "meets"), [(0.99, True), (0.98999, False), (None, None)])
def test_a_class_is_judged_by_its_worst_seed(worst, meets):
    plan = plan_document()
    plan["demands"][0]["classes"][0]["worst_seed"] = worst
    assert plan_view.outcomes(plan)[0].meets is meets


def test_errors_are_relative_to_the_simulation():
    rows = plan_view.compared(plan_document())["small", "chat"]
    assert [row.title for row in rows] == ["TTFT p50", "TTFT p99", "ITL p99"]
    assert rows[1].error == pytest.approx(1.5)
    assert (rows[1].simulated_over, rows[1].predicted_over) == (False, True)
    assert rows[2].target_s is None  # a paced target says nothing of the p99 gap


def test_a_prediction_without_end_is_above_every_target_and_has_no_error():
    row = plan_view.compared(plan_document())["big", "chat"][1]
    assert (row.endless, row.error, row.predicted_over) == (True, None, True)


def test_a_class_with_a_tpot_has_that_in_the_place_of_the_itl():
    entry = {"name": "c", "slo": {"itl_s": 0.05, "itl": "mean", "percentile": 99},
             "simulated": {"itl_p99_s": 0.2, "tpot_p99_s": 0.06}, "predicted": {"itl_p99_s": 0.3}}
    row, = plan_view.compared({"demands": [{"name": "d", "classes": [entry]}]})["d", "c"]
    assert (row.title, row.target_s, row.simulated_s, row.predicted_s) == (
        "TPOT p99", 0.05, 0.06, None)
    assert (row.simulated_over, row.predicted_over, row.endless) == (True, None, False)


def test_what_was_neither_predicted_nor_simulated_is_not_compared():
    assert ("huge", "batch") not in plan_view.compared(plan_document())


def test_candidates_rank_by_cost_alone_then_name_and_unknown_costs_come_last():
    plan = plan_document(candidates=[
        candidate("small", "c", "l4", 1.0, 1, 1.0, cost_alone_per_hour=None),
        candidate("small", "b", "l4", 1.0, 2, 1.0), candidate("small", "a", "l4", 2.0, 1, None),
        candidate("big", "z", "l4", 0.1, 1, 1.0)])
    ranked = plan_view.ranked(plan)[0]
    assert [item.candidate["variant"] for item in ranked] == ["a", "b", "c"]
    assert [item.slowest_ttft_p99_s for item in ranked] == [None, 1.0, 1.0]


def test_equal_reasons_are_told_once():
    found = plan_reasons.not_considered(plan_document())
    assert [item.variants for item in found] == [("l4-bf16", "l4-fp8"), ("l4-bf16",),
                                                 ("h100-bf16",)]


def test_in_brief_reasons_that_differ_after_a_colon_are_one():
    found = plan_reasons.not_considered(plan_document(), brief=True)
    assert found[1] == plan_reasons.NotConsidered("huge", "model does not fit",
                                               ("l4-bf16", "h100-bf16"))
    alone = plan_document(not_considered=plan_document()["not_considered"][2:3])
    assert plan_reasons.not_considered(alone, brief=True)[0].reason \
        == "model does not fit: lacks 44 GiB"


def test_in_brief_reasons_of_plans_are_told_by_kind():
    """With the very words that plans use; who carries more is named, as it may be less precise."""
    plan = planned(accelerators=cards(a100_80gb=2), models=[
        {"name": "llama-3-8b", "precisions": ["bf16", "fp8"]}])
    document = document_of(plan)
    whole = {item.reason for item in plan_reasons.not_considered(document)}
    brief = {item.reason: item.variants
             for item in plan_reasons.not_considered(document, brief=True)}
    assert len(brief) < len(whole)
    assert set(brief["needs more accelerators than there are"]) == {
        f"a100-80gb-tp{degree}-{precision}" for degree in (4, 8) for precision in ("bf16", "fp8")}
    (better,) = (reason for reason in brief
                 if reason.endswith("carries more on the same accelerators"))
    assert better.startswith("a100-80gb-")


def test_several_that_carry_more_are_all_named():
    # "cards" is the word of plans of release 0.2.
    reasons = [{"demand": "d", "variant": v, "reason": f"{better} carries more on the same {word}"}
               for v, better, word in (("x", "a", "accelerators"), ("y", "b", "cards"),
                                       ("z", "a", "accelerators"))]
    found = plan_reasons.not_considered({"not_considered": reasons}, brief=True)
    assert found == [plan_reasons.NotConsidered("d", "a or b carries more on the same accelerators",
                                             ("x", "z", "y"))]


def test_only_what_is_worth_something_is_listed():
    prices = [{"resource": "idle", "one_more_saves_per_hour": 0.0, "dual_per_hour": 0.0},
              {"resource": "saves", "one_more_saves_per_hour": 1.0},
              {"resource": "dual", "dual_per_hour": 0.1},
              {"resource": "serves", "serves_per_s": {"1": 0.5}},
              {"resource": "unknown", "one_more_saves_per_hour": None, "serves_per_s": None}]
    found = plan_view.worth_something({"shadow_prices": prices})
    assert [item["resource"] for item in found] == ["saves", "dual", "serves"]


@pytest.mark.parametrize(("slo", "saves"), [
    ({"itl_s": 0.1, "itl": "paced"}, True), ({"itl_s": 0.1, "itl": "mean"}, False),
    ({"itl_s": 0.1}, True), ({"itl": "paced"}, False), ({"itl_s": 0.1, "itl": "strict"}, False),
    ({}, False)])
def test_an_itl_that_no_gap_tells_is_noticed(slo, saves):
    demand = {"name": "d", "classes": [{"name": "c", "slo": slo}]}
    assert plan_view.any_saves({"demands": [demand]}) is saves


def test_unserved_demands_carry_their_explanations():
    assert plan_view.unserved(plan_document()) == [
        plan_view.Unserved("big", 0.3429, ()),
        plan_view.Unserved("huge", 0.0, ("2 more h100 would serve it in full",))]
