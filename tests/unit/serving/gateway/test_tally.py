"""The gateway's attainment is the one that the reference page of metrics defines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.slo import ITL_MODES, ServiceClass, Slo
from penstock.metrics.definitions import first_due_s, gap_statistics, met_slo
from penstock.serving.gateway.tally import End, Pace, Tally, met, tally_document

slos = st.builds(Slo, st.sampled_from([None, 0.5]), st.sampled_from([None, 0.03, 0.1]),
                 st.sampled_from([None, 2.0]), st.sampled_from(ITL_MODES),
                 st.sampled_from([99.0, 80.0]))


@given(slos, st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.7]), min_size=1, max_size=40))
def test_one_stream_is_judged_as_a_run_would_be(slo, gaps) -> None:
    # Tokens at gaps of 0 s come in one piece, as several events of one read do.
    token_s = np.cumsum(np.array(gaps) + 1e-5 * (np.array(gaps) > 0))
    pace, before = Pace(slo, 0.0), 0
    for moment in np.unique(token_s):
        after = int(np.searchsorted(token_s, moment, side="right"))
        pace.pass_tokens(before, after, float(moment))
        before = after
    first, last, num = token_s[:1], token_s[-1:], np.array([len(gaps)])
    itl_s = np.array([np.nan if slo.itl_s is None else slo.itl_s])
    late = gap_statistics(token_s[None, :], first_due_s(slo, np.zeros(1), first), itl_s,
                          slo.itl).num_late_tokens
    expected = met_slo(slo, np.ones(1, bool), first, last, num, late)[0]
    if slo.itl_s is not None:
        assert pace.num_late == late[0]
    assert met(slo, len(gaps), pace.num_late, float(first[0]), float(last[0])) == expected


CHAT = ServiceClass("chat", Slo(ttft_s=1.0))


def end(outcome="finished", ttft_s=0.5, tokens=10):
    return End(CHAT, outcome, tokens, tokens, 0, ttft_s, 2.0)


def test_misses_are_what_was_late_failed_or_turned_away() -> None:
    tally = Tally([CHAT])
    said = [tally.add(one, 10.0) for one in (
        end(), end(ttft_s=1.5), end("failed"), end("broken"), end("shed"), end("cancelled"),
        end("refused"), end(ttft_s=None))]
    assert said == [True, False, False, False, False, None, None, False]
    [found] = tally_document([tally.counts(11.0)])["classes"]
    assert (found["num_judged"], found["num_met"], found["attainment"]) == (6, 1, 1 / 6)
    assert found["ttft_s"] == {"p50": 1.5, "p95": 1.5, "p99": 1.5}
    assert found["outcomes"]["shed"] == 1


def test_ticks_are_of_the_last_minutes() -> None:
    tally = Tally([CHAT])
    tally.add(end(tokens=3), 0.5)
    tally.add(end("failed", tokens=0), 9.0)
    ticks = tally_document([tally.counts(10.0)])["ticks"]
    assert [(one["s_ago"], one["num_ended"], one["num_missed"], one["output_tokens"])
            for one in ticks] == [(10.0, 1, 0, 3), (2.0, 1, 1, 0)]
    assert tally_document([tally.counts(1000.0)])["ticks"] == []


def test_a_class_nobody_knew_is_counted_and_new_targets_hold() -> None:
    tally = Tally([])
    assert tally.add(end(), 0.0) is True
    tally.adopt([ServiceClass("chat", Slo(ttft_s=0.1))])
    assert tally_document([tally.counts(0.0)])["classes"][0]["targets"] == {"ttft_s": 0.1}


def test_the_tallies_of_several_processes_are_one_tally() -> None:
    whole, parts = Tally([CHAT]), [Tally([CHAT]), Tally([])]
    for number, one in enumerate([end(ttft_s=0.1), end(ttft_s=0.3), end("failed"), end("cancelled"),
                                  end(ttft_s=0.2)]):
        at_s = 4.0 * number
        whole.add(one, at_s)
        parts[number % 2].add(one, at_s)
    assert tally_document([one.counts(20.0) for one in parts]) == tally_document(
        [whole.counts(20.0)])
