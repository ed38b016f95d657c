"""Due times as the objectives and the published systems state them."""

import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.pacing import NO_DEADLINE_S, PlainPacing, all_groups
from penstock.policy.schedule.pacing_niyama import NiyamaPacing
from penstock.policy.schedule.pacing_penstock import PenstockPacing
from penstock.policy.schedule.sequence import Sequence
from penstock.predict.length import HistoryLengths

STEP_TIME = LinearStepTime(0.01, 1e-5, 0.0, 0.0, 0.0, Evidence("test", 0.0, 0.0))


def request(slo: Slo, arrival_s: float = 0.0, max_tokens: int = 1000) -> Request:
    return Request(0, arrival_s, 100, max_tokens, ServiceClass("any", slo))


def decoding(slo: Slo, group: DecodeGroup, deadline_s: float, first_token_s: float,
             arrival_s: float = 0.0) -> Sequence:
    sequence = Sequence(request(slo, arrival_s), 0, deadline_s, 0)
    sequence.generated = 1
    sequence.first_token_s = first_token_s
    group.join(sequence)
    return sequence


@pytest.mark.parametrize(("slo", "due_s"), [
    (Slo(), NO_DEADLINE_S), (Slo(ttft_s=6.0), 6.0), (Slo(e2e_s=600.0), 600.0),
    (Slo(ttft_s=6.0, e2e_s=4.0), 4.0), (Slo(ttft_s=6.0, itl_s=0.05), 6.0)])
def test_plain_deadlines(slo: Slo, due_s: float) -> None:
    assert PlainPacing().prefill_deadline_s(request(slo, arrival_s=10.0)) == 10.0 + due_s


# deadline-scheduling-niyama.md, section 1.2: 600 s and 1,800 s less 15 or 150 tokens of 0.4 s.
@pytest.mark.parametrize(("slo", "predicted", "due_s"), [
    (Slo(ttft_s=6.0, itl_s=0.05), 15, 6.0), (Slo(e2e_s=600.0), 15, 594.0),
    (Slo(e2e_s=1800.0), 15, 1794.0), (Slo(e2e_s=600.0), 150, 540.0),
    (Slo(e2e_s=1800.0), 150, 1740.0), (Slo(e2e_s=600.0), 0, 600.0)])
def test_niyama_deadlines(slo: Slo, predicted: int, due_s: float) -> None:
    pacing = NiyamaPacing(scheduler_options("niyama", predicted_output_tokens=predicted))
    assert pacing.prefill_deadline_s(request(slo, arrival_s=5.0)) == pytest.approx(5.0 + due_s)


def test_niyama_paces_every_class() -> None:
    pacing = NiyamaPacing(scheduler_options("niyama"))
    assert pacing.itl_s(Slo(itl_s=0.05)) == 0.05
    assert pacing.itl_s(Slo(e2e_s=600.0)) == 0.4


@pytest.mark.parametrize(("first_token_s", "start_s"), [(2.0, 6.0), (7.5, 7.5)])
def test_niyama_banks_an_early_first_token_and_forgives_a_late_one(first_token_s: float,
                                                                   start_s: float) -> None:
    pacing = NiyamaPacing(scheduler_options("niyama"))
    group = DecodeGroup(16, 0.05, strict=False)
    slo = Slo(ttft_s=6.0, itl_s=0.05)
    sequence = decoding(slo, group, 6.0, first_token_s)
    assert pacing.next_due_s(sequence, group) == pytest.approx(start_s + 0.05 * 2)
    group.advance(10)
    assert pacing.next_due_s(sequence, group) == pytest.approx(start_s + 0.05 * 12)


def test_penstock_due_times_follow_the_definition_of_paced_itl() -> None:
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.05, strict=False)
    sequence = decoding(Slo(ttft_s=6.0, itl_s=0.05), group, 6.0, 2.0, arrival_s=1.0)
    # Token n (from 0) is due at arrival + ttft_s + n * itl_s; one token is out.
    assert pacing.next_due_s(sequence, group) == pytest.approx(1.0 + 6.0 + 0.05)
    group.advance(3)
    assert pacing.next_due_s(sequence, group) == pytest.approx(1.0 + 6.0 + 0.2)


def test_penstock_starts_the_pace_at_the_first_token_without_a_ttft() -> None:
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.05, strict=False)
    sequence = decoding(Slo(itl_s=0.05), group, 1e9, 2.0)
    assert pacing.next_due_s(sequence, group) == pytest.approx(2.05)


def test_penstock_starts_a_mean_pace_at_the_first_token() -> None:
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.05, strict=False)
    sequence = decoding(Slo(ttft_s=6.0, itl_s=0.05, itl="mean"), group, 6.0, 2.0)
    group.advance(3)
    assert pacing.next_due_s(sequence, group) == pytest.approx(2.2)


def test_penstock_leaves_time_for_the_output_of_an_e2e_target() -> None:
    lengths = HistoryLengths(prior_tokens=100.0)
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, lengths)
    slo = Slo(e2e_s=60.0)
    for_long = pacing.prefill_deadline_s(request(slo))
    assert 30.0 <= for_long < 60.0
    assert for_long < pacing.prefill_deadline_s(request(slo, max_tokens=10)) < 60.0


def test_penstock_spends_only_a_share_of_the_bank() -> None:
    options = scheduler_options("penstock", slack_spend_fraction=0.25, time_margin=0.0)
    pacing = PenstockPacing(options, STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.05, strict=False)
    sequence = decoding(Slo(ttft_s=1.0, itl_s=0.05), group, 1.0, 0.1)
    group.watch(sequence, pacing.next_due_s(sequence, group))
    # Due at 1.05; at 0.2 it has 0.85 s, of which 0.8 s are banked.
    assert pacing.slack_s([group], (0,), 0.2) == pytest.approx(0.05 + 0.25 * 0.8)
    assert pacing.slack_s([group], (0,), 1.02) == pytest.approx(0.03)
    assert pacing.slack_s([group], (), 0.2) == float("inf")


def test_penstock_gives_up_what_is_late_beyond_repair() -> None:
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.05, strict=False)
    sequence = decoding(Slo(ttft_s=1.0, itl_s=0.05), group, 1.0, 0.1)
    group.watch(sequence, pacing.next_due_s(sequence, group))
    assert pacing.slack_s([group], (0,), 1.2) == float("inf")
    assert pacing.slack_s([group], (0,), 0.2) == float("inf")  # for good


def test_a_pace_that_no_step_keeps_does_not_bind() -> None:
    pacing = PenstockPacing(scheduler_options("penstock"), STEP_TIME, HistoryLengths())
    group = DecodeGroup(16, 0.005, strict=False)
    sequence = decoding(Slo(ttft_s=1.0, itl_s=0.005), group, 1.0, 0.1)
    group.watch(sequence, pacing.next_due_s(sequence, group))
    assert pacing.slack_s([group], (0,), 0.2) == float("inf")


def test_niyama_slack_is_that_of_the_tightest_decode() -> None:
    pacing = NiyamaPacing(scheduler_options("niyama"))
    groups = [DecodeGroup(16, 0.05, strict=False), DecodeGroup(16, 0.4, strict=False)]
    slos = [Slo(ttft_s=6.0, itl_s=0.05), Slo(e2e_s=600.0)]
    for group, slo, deadline_s in zip(groups, slos, (6.0, 594.0), strict=True):
        sequence = decoding(slo, group, deadline_s, 1.0)
        group.watch(sequence, pacing.next_due_s(sequence, group))
    assert pacing.slack_s(groups, (0, 1), 2.0) == pytest.approx(6.1 - 2.0)
    assert pacing.slack_s(groups, (1,), 2.0) == pytest.approx(594.8 - 2.0)
    assert pacing.slack_s(groups, (), 2.0) == float("inf")


def test_all_groups_skips_empty_ones() -> None:
    empty, full = DecodeGroup(16, None, strict=False), DecodeGroup(16, None, strict=False)
    decoding(Slo(), full, 0.0, 0.0)
    assert all_groups([empty, full]) == (1,)
