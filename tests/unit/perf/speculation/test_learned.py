import numpy as np
import pytest

from penstock.perf.speculation.learned import LearnedAcceptance


def looks(rates, sizes, seed=0):
    """Running counters of drafts with these rates, one look after each number of drafts."""
    rng = np.random.default_rng(seed)
    drafts, accepted = 0, np.zeros(len(rates))
    for size in sizes:
        depth = (rng.random((size, 1)) < np.array(rates)).sum(axis=1)
        drafts += size
        accepted += (depth[:, None] > np.arange(len(rates))).sum(axis=0)
        yield float(drafts), tuple(accepted.tolist())


def test_the_rates_of_the_counters_are_learned_with_intervals():
    learned = LearnedAcceptance()
    for counts in looks((0.7, 0.4, 0.2), [500] * 20):
        learned.see(*counts)
    found = learned.acceptance()
    assert found.rates == pytest.approx((0.7, 0.4, 0.2), abs=0.02)
    assert all(low < rate < high for low, rate, high in
               zip(found.low, (0.7, 0.4, 0.2), found.high, strict=True))


def test_few_drafts_tell_nothing():
    learned = LearnedAcceptance()
    learned.see(99.0, (50.0,))
    assert learned.acceptance() is None


def test_later_drafts_count_more():
    learned = LearnedAcceptance(half_life_drafts=1000.0)
    learned.see(10_000.0, (8_000.0,))
    learned.see(20_000.0, (8_000.0 + 2_000.0,))
    assert learned.acceptance().rates[0] == pytest.approx(0.2, abs=0.01)


def test_an_engine_that_was_started_anew_is_counted_from_its_start():
    learned = LearnedAcceptance()
    learned.see(1_000.0, (500.0,))
    learned.see(400.0, (400.0,))
    assert learned.acceptance().rates[0] == pytest.approx(900 / 1400, rel=0.02)


def test_another_depth_is_learned_anew():
    learned = LearnedAcceptance()
    learned.see(1_000.0, (500.0,))
    learned.see(1_000.0, (700.0, 300.0))
    assert learned.acceptance().rates == (0.7, 0.3)


def test_a_look_without_news_changes_nothing():
    learned = LearnedAcceptance()
    learned.see(1_000.0, (500.0, 200.0))
    before = learned.acceptance()
    learned.see(1_000.0, (500.0, 200.0))
    assert learned.acceptance() == before


def test_counters_that_were_read_within_a_turn_give_rates_that_never_increase():
    learned = LearnedAcceptance()
    learned.see(1_000.0, (1_002.0, 1_004.0))
    assert learned.acceptance().rates == (1.0, 1.0)
