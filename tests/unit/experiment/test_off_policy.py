import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.experiment.off_policy import (
    LoggedDecisions,
    doubly_robust,
    epsilon_greedy,
    inverse_propensity,
)

MEANS = np.array([0.3, 0.5, 0.8])  # of three candidates


def logged(num: int, epsilon: float = 0.3, seed: int = 0) -> LoggedDecisions:
    """Of a policy that takes candidate 0, or with epsilon any."""
    rng = np.random.default_rng(seed)
    chances = epsilon_greedy(np.zeros(num, int), 3, epsilon)
    chosen = np.array([rng.choice(3, p=row) for row in chances])
    rewards = (rng.random(num) < MEANS[chosen]).astype(float)
    return LoggedDecisions(chosen, chances[np.arange(num), chosen], rewards)


def always(candidate: int, num: int) -> np.ndarray:
    return epsilon_greedy(np.full(num, candidate), 3, 0.0)


def test_epsilon_greedy_is_a_distribution() -> None:
    assert epsilon_greedy(np.array([1]), 4, 0.2).tolist() == [pytest.approx([.05, .85, .05, .05])]


@pytest.mark.parametrize("candidate", [0, 1, 2])
def test_a_policy_that_was_never_run_is_judged(candidate: int) -> None:
    log = logged(20_000)
    policy = always(candidate, 20_000)
    for value in (inverse_propensity(log, policy),
                  inverse_propensity(log, policy, self_normalised=False),
                  doubly_robust(log, policy, np.full((20_000, 3), 0.4))):
        assert value.low < MEANS[candidate] < value.high
        assert value.high - value.low < 0.2


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = {"ips": 0, "dr": 0}
    for seed in range(100):
        log, policy = logged(600, seed=seed), always(2, 600)
        ips = inverse_propensity(log, policy)
        dr = doubly_robust(log, policy, np.tile(MEANS, (600, 1)))
        held["ips"] += ips.low <= MEANS[2] <= ips.high
        held["dr"] += dr.low <= MEANS[2] <= dr.high
    assert all(87 <= count <= 100 for count in held.values()), held


def test_the_logging_policy_is_worth_what_it_earned() -> None:
    log = logged(500)
    own = epsilon_greedy(np.zeros(500, int), 3, 0.3)
    value = inverse_propensity(log, own)
    assert value.mean == pytest.approx(log.rewards.mean())
    assert value.effective_decisions == pytest.approx(500)


def test_good_expectations_narrow_the_interval_and_bad_ones_do_not_mislead() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.random(5000)
    chances = epsilon_greedy(np.zeros(5000, int), 3, 0.5)
    chosen = np.array([rng.choice(3, p=row) for row in chances])
    truth = difficulty[:, None] * MEANS
    log = LoggedDecisions(chosen, chances[np.arange(5000), chosen],
                          truth[np.arange(5000), chosen] + rng.normal(0, 0.01, 5000))
    policy = always(2, 5000)
    wanted = truth[:, 2].mean()
    plain = inverse_propensity(log, policy)
    good, bad = doubly_robust(log, policy, truth), doubly_robust(log, policy, truth + 5.0)
    assert good.high - good.low < 0.5 * (plain.high - plain.low)
    assert bad.low < wanted < bad.high


def test_what_was_never_tried_cannot_be_judged() -> None:
    log = LoggedDecisions(np.zeros(10, int), np.ones(10), np.ones(10))
    with pytest.raises(InputError, match="never chooses what was chosen"):
        inverse_propensity(log, always(1, 10))


@pytest.mark.parametrize(("chosen", "propensities", "rewards", "message"), [
    ([0, 1], [0.5], [1, 1], "2 choices, 1 propensities"),
    ([0], [0.5], [1], "1 decisions; expected at least 2"),
    ([0, 1], [0.5, 0.0], [1, 1], "propensities: expected numbers above 0"),
    ([0, 1], [0.5, 1.5], [1, 1], "propensities"),
    ([0, 1], [0.5, 0.5], [1, float("nan")], "rewards: expected finite"),
])
def test_impossible_logs_are_refused(chosen: list[int], propensities: list[float],
                                     rewards: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoggedDecisions(np.array(chosen), np.array(propensities), np.array(rewards))


@pytest.mark.parametrize(("policy", "message"), [
    (np.ones((10, 3)), "sum to 1"), (np.ones((9, 3)) / 3, r"expected \(10, candidates\)"),
    (np.tile([1.5, -0.5, 0.0], (10, 1)), "sum to 1"), (np.ones((10, 1)), "candidate"),
])
def test_impossible_policies_are_refused(policy: np.ndarray, message: str) -> None:
    log = LoggedDecisions(np.array([0] * 9 + [1]), np.full(10, 0.5), np.ones(10))
    with pytest.raises(InputError, match=message):
        inverse_propensity(log, policy)
