"""How certain a plan is."""

from dataclasses import replace
from itertools import pairwise

import pytest

from penstock.plan.certainty import EDGE, certainties
from penstock.plan.document import plan_document
from penstock.plan.judge import judge
from penstock.plan.propose import groups_of
from penstock.plan.slower import probability_of, sigmas_of
from penstock.report.model import plan_wording, wording
from penstock.report.model.wording import ABSENT
from penstock.report.terminal.plan import plan_blocks
from support.small_plans import BATCH, cards, lengths, planned, traffic

BUSY = traffic(rate_per_s=90, num_requests=200)


@pytest.fixture(scope="module")
def plan():
    return planned(BUSY, accelerators=cards(a100_80gb=None))


@pytest.fixture(scope="module")
def certain(plan):
    return certainties(plan)["llama-3-8b"]


@pytest.fixture(scope="module")
def document(plan, certain):
    return plan_document(plan, certain={"llama-3-8b": certain})


def test_more_replicas_suffice_with_more_probability(certain):
    shares = [share for _, share in certain.suffices]
    assert all(a <= b for a, b in pairwise(shares))
    numbers = [number for number, _ in certain.suffices]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert certain.holds == dict(certain.suffices)[certain.num_replicas] >= 0.5


def test_the_probability_is_where_simulation_stops_holding():
    """Replicas hold at slightly faster steps, and miss at slightly slower ones."""
    strict = [{"name": "chat", "slo": {"ttft_s": 0.6}}, BATCH]
    plan = planned(traffic(rate_per_s=26, num_requests=150, lengths=lengths(1500, 30)),
                   service_classes=strict, accelerators=cards(a100_80gb=None))
    certain = certainties(plan)["llama-3-8b"]
    choice, = plan.choices
    number, share = next(found for found in certain.suffices if 0.1 < found[1] < 0.9)
    (variant, _), = plan.checked.counts["llama-3-8b"]
    groups = groups_of(choice, ((variant, number),))

    def holds(sigmas):
        return judge(plan.before, choice.demand, groups, seed=0, sigmas=sigmas).meets

    edge = sigmas_of(share)
    assert holds(edge - 0.5)
    assert not holds(edge + 0.5)


def test_outcomes_at_the_ends_frame_the_plan(plan, certain):
    verdict = plan.checked.verdicts["llama-3-8b"]
    for slow, plain, fast in zip(certain.slow.classes, verdict.classes, certain.fast.classes,
                                 strict=True):
        assert slow.worst_share <= plain.worst_share <= fast.worst_share
        assert slow.ttft_p99_s >= plain.ttft_p99_s >= fast.ttft_p99_s
    low, high = certain.headroom
    assert low <= plan.headroom["llama-3-8b"] <= high
    assert low < high


def test_cost_is_that_of_the_replicas_which_suffice(plan, certain):
    low, high = certain.cost_per_hour
    each = plan.checked.solution.cost_per_hour / certain.num_replicas
    shares = dict(certain.suffices)
    assert shares[round(low / each)] > 0.05
    assert shares[round(high / each)] >= 0.95


def test_confidence_buys_what_slow_steps_need(certain):
    sure = planned(BUSY, accelerators=cards(a100_80gb=None), plan={"confidence": 0.95})
    found = certainties(sure)["llama-3-8b"]
    assert found.num_replicas > certain.num_replicas
    assert found.holds >= 0.949
    assert found.headroom[0] >= 0.0


def test_accelerators_that_are_not_there_are_not_tried():
    plan = planned(BUSY, accelerators=cards(a100_80gb=2))
    if plan.served_in_full:
        found = certainties(plan)["llama-3-8b"]
        assert max(number for number, _ in found.suffices) <= 2


def test_a_demand_that_is_not_served_has_none():
    plan = planned(BUSY, service_classes=[{"name": "chat", "slo": {"ttft_s": 1e-4}},
                                          {"name": "batch", "slo": {"ttft_s": 1e-4}}])
    assert certainties(plan) == {}
    assert "holds_probability" not in plan_document(plan, certain={})


def test_a_burst_has_certainty_but_no_headroom():
    plan = planned(traffic(rate_per_s=90))
    alone = replace(plan, headroom={})
    assert certainties(alone)["llama-3-8b"].headroom is None


def test_the_document_has_every_interval(document, certain):
    found = document["demands"][0]["certainty"]
    assert document["holds_probability"] == found["holds_probability"] == certain.holds
    assert document["cost_per_hour_interval"] == list(certain.cost_per_hour)
    assert [entry["num_replicas"] for entry in found["suffices"]] == [
        number for number, _ in certain.suffices]
    for entry in found["classes"]:
        low, high = entry["attainment_interval"]
        assert low <= high
        low, high = entry["ttft_p99_interval_s"]
        assert low <= high


def test_the_terminal_says_how_certain(document):
    facts = {fact.label: fact.value for fact in plan_wording.facts(document)}
    assert facts["Certainty"] == wording.probability(document["holds_probability"])
    assert " to " in facts["Cost per hour"]
    titles = [block.title for block in plan_blocks(document) if hasattr(block, "title")]
    assert "How certain" in titles


@pytest.mark.parametrize(("share", "text"), [
    (0.95, "> 95 %"), (0.05, "< 5 %"), (0.621, "62 %"), (None, ABSENT)])
def test_probabilities_in_words(share, text):
    assert wording.probability(share) == text


def test_the_edge_is_that_of_ninety_per_cent():
    assert probability_of(EDGE) == pytest.approx(0.95, abs=1e-3)


def test_an_unmeasured_accelerator_says_so_beside_its_name():
    assert plan_wording.replicas_of("b", 2, ["accelerator"]) == "2 x b (accelerator not measured)"
    plan = planned(accelerators=cards(l4=None), engine={"name": "vllm"})
    texts = [str(cell) for block in plan_blocks(plan_document(plan)) if hasattr(block, "rows")
             for row in block.rows for cell in row]
    assert any("accelerator not measured" in text for text in texts)
