"""What saturated replicas finish corrects the believed rate."""

import pytest

from penstock.policy.scale.correction import RateCorrection, Served

PERIOD_S = 5.0


def learned(rate_per_s, waiting, *, believed_per_s=10.0, for_s=300.0, num_ready=2, running=20,
            changes_s=None):
    """Factor after a time in which the replicas finish that rate while so many requests wait."""
    found = RateCorrection(wait_s=1.0)
    for step in range(int(for_s / PERIOD_S)):
        now_s = step * PERIOD_S
        num = num_ready + (int(now_s / changes_s) % 2 if changes_s else 0)
        ended = round(rate_per_s * now_s)
        found.add(now_s, Served(ended, ended, num, running, waiting, believed_per_s))
    return found.factor


@pytest.mark.parametrize("ratio", [0.6, 0.8, 1.0])
def test_saturated_replicas_tell_their_rate(ratio) -> None:
    assert learned(10.0 * ratio, waiting=100) == pytest.approx(ratio, rel=0.03)


def test_replicas_without_a_queue_say_only_that_they_finish_no_less() -> None:
    assert learned(4.0, waiting=0) == 1.0
    assert learned(4.0, waiting=3) == 1.0, "a request waits for a step, not for its turn"
    assert 1.2 < learned(14.0, waiting=0, for_s=3600.0) < 1.4


def test_a_higher_rate_is_believed_slowly_and_less_what_chance_may_add() -> None:
    assert 1.0 < learned(14.0, waiting=0) < 1.15
    assert learned(11.0, waiting=0, believed_per_s=10.0, for_s=3600.0) < 1.03
    assert learned(5.0, waiting=100) < 0.55, "a lower one is believed at once"


def test_a_queue_counts_once_the_answers_of_a_lower_load_have_ended() -> None:
    assert learned(5.0, waiting=100, for_s=30.0) == 1.0
    assert learned(5.0, waiting=100, for_s=90.0, running=400) == 1.0, "answers last 80 s"
    assert learned(5.0, waiting=100, for_s=90.0) < 0.8


def test_replicas_that_come_and_go_teach_nothing() -> None:
    assert learned(5.0, waiting=100, changes_s=20.0) == 1.0


def test_few_ends_and_unknown_rates_teach_nothing() -> None:
    assert learned(0.5, waiting=100) == 1.0
    assert learned(5.0, waiting=100, believed_per_s=0.0) == 1.0


def test_the_factor_has_bounds() -> None:
    assert learned(10.0, waiting=1000, believed_per_s=1e-3, for_s=3000.0) == 10.0
    assert learned(2.0, waiting=1000, believed_per_s=1e3, for_s=3000.0) == 0.5


def test_replicas_slow_with_long_requests_are_not_known_to_be_slow_with_short_ones() -> None:
    found = RateCorrection(wait_s=1.0)
    for step in range(60):
        now_s = step * PERIOD_S
        found.add(now_s, Served(round(5.0 * now_s), 8 * round(5.0 * now_s), 2, 20, 100, 80.0, 8.0))
    slow = found.factor
    assert slow == pytest.approx(0.5, rel=0.1)
    found.add(60 * PERIOD_S, Served(0, 0, 2, 0, 0, 10.0, 1.0))
    assert found.factor > 0.95
    found.add(61 * PERIOD_S, Served(0, 0, 2, 0, 0, 80.0, 8.0))
    assert found.factor == pytest.approx(slow, rel=0.01)
