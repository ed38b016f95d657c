"""Routers that choose the model by the request, and those that do not look at it."""

from itertools import cycle
from random import Random

import pytest

from penstock.core.forecast import Forecast
from penstock.core.money import Price
from penstock.policy.route.facts import Offer
from penstock.policy.route.models.content import (
    BestQuality,
    DualPool,
    QualityFloorDual,
    StrongShare,
    VirtualQueues,
    WeightedRank,
)
from penstock.policy.route.models.fixed import FixedMix, FixedModel
from penstock.policy.route.models.protocol import cost, quality, scaled
from support.small_routing import LARGE, SMALL, departure, expected, request

MIDDLE = Offer("middle", Price(2e-7, 4e-7), 3e9, 0.6)
OFFERS = (SMALL, MIDDLE, LARGE)


def test_a_fixed_model_is_taken_by_size_or_by_name() -> None:
    chosen = [FixedModel(which).choose(request(), OFFERS, 0.0)
              for which in ("smallest", "largest", "middle", "gone")]
    assert chosen == ["small", "large", "middle", "large"]


def test_a_mix_gives_each_model_its_share() -> None:
    rng = Random(1)
    mix = FixedMix({"small": 3.0, "large": 1.0, "elsewhere": 9.0}, rng.random)
    chosen = [mix.choose(request(), OFFERS, 0.0) for _ in range(4000)]
    assert chosen.count("small") / 4000 == pytest.approx(0.75, abs=0.02)
    assert chosen.count("large") / 4000 == pytest.approx(0.25, abs=0.02)


def test_a_mix_never_takes_a_model_without_a_share() -> None:
    almost_one = 1.0 - 2.0**-53
    for shares in ({"small": 0.1, "middle": 0.2}, {"small": 0.7}, {"middle": 1e9}):
        assert FixedMix(shares, lambda: almost_one).choose(request(), OFFERS, 0.0) in shares
    assert FixedMix({"elsewhere": 1.0}, lambda: 0.5).choose(request(), OFFERS, 0.0) == "large"


def test_expectations_come_from_forecasts_and_else_from_the_model() -> None:
    one = request(forecasts={"small": Forecast(50.0, 90.0, 0.9)}, prompt_tokens=10, max_tokens=40)
    assert (quality(one, SMALL), quality(one, LARGE)) == (0.9, 0.7)
    assert cost(one, SMALL, 20.0) == pytest.approx(10 * 1e-7 + 40 * 2e-7)
    assert cost(one, LARGE, 20.0) == pytest.approx(10 * 5e-7 + 20 * 10e-7)
    assert scaled([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert scaled([2.0, 2.0]) == [0.5, 0.5]


def test_best_route_takes_the_best_and_of_equals_the_smaller() -> None:
    best = BestQuality()
    assert best.choose(request(), OFFERS, 0.0) == "large"
    assert best.choose(request(forecasts=expected(0.7, 0.7)), OFFERS, 0.0) == "small"
    assert best.choose(request(forecasts=expected(0.9, 0.2)), OFFERS, 0.0) == "small"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_the_strong_model_gets_the_asked_share_of_a_stationary_stream(share: float) -> None:
    rng, router = Random(2), StrongShare(share)
    chosen = [router.choose(request(forecasts=expected(rng.random(), rng.random())), OFFERS, 0.0)
              for _ in range(5000)]
    assert set(chosen) <= {"small", "large"}
    assert chosen.count("large") / 5000 == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("gains", [(0.2,), (0.0, 0.0, 0.0, 0.4), (-0.1, 0.3)])
def test_the_share_holds_for_requests_that_look_alike(share: float,
                                                     gains: tuple[float, ...]) -> None:
    router, stream = StrongShare(share), cycle(gains)
    chosen = [router.choose(request(forecasts=expected(0.5, 0.5 + next(stream))), OFFERS, 0.0)
              for _ in range(4000)]
    assert chosen.count("large") / 4000 == pytest.approx(share, abs=0.02)


def test_those_who_gain_most_go_to_the_strong_model() -> None:
    rng, router = Random(3), StrongShare(0.3)
    gains = [rng.random() for _ in range(3000)]
    chosen = [router.choose(request(forecasts=expected(0.0, gain)), OFFERS, 0.0) for gain in gains]
    late = list(zip(gains[1000:], chosen[1000:], strict=True))
    assert all(model == "large" for gain, model in late if gain > 0.8)
    assert all(model == "small" for gain, model in late if gain < 0.6)


def test_a_threshold_stands_in_for_the_share() -> None:
    router = StrongShare(0.5, threshold=0.1)
    chosen = [router.choose(request(forecasts=expected(0.5, large)), OFFERS, 0.0)
              for large in (0.55, 0.75, 0.61, 0.4)]
    assert chosen == ["small", "large", "large", "small"]


@pytest.mark.parametrize(("alpha", "chosen"), [(0.0, "small"), (1.0, "large")])
def test_the_corners_of_the_weighted_rank(alpha: float, chosen: str) -> None:
    assert WeightedRank(alpha).choose(request(), OFFERS, 0.0) == chosen


def test_the_weighted_rank_between_the_corners() -> None:
    # Qualities .5 .68 .7 scale to 0 .9 1, costs 1 2 5 to 0 .25 1: the middle one scores best.
    offers = (SMALL, MIDDLE._replace(quality=0.68), LARGE)
    assert WeightedRank(0.5).choose(request(), offers, 0.0) == "middle"


@pytest.mark.parametrize("floor", [0.45, 0.55, 0.62, 0.68])
def test_the_dual_price_brings_the_mean_quality_to_a_floor_that_can_be_reached(
        floor: float) -> None:
    rng, router = Random(4), QualityFloorDual(floor)
    total, spent, num = 0.0, 0.0, 4000
    for _ in range(num):
        one = request(forecasts=expected(rng.uniform(0.4, 0.6), rng.uniform(0.6, 0.8)))
        model = router.choose(one, (SMALL, LARGE), 0.0)
        total += one.forecasts[model].quality
        spent += model == "large"
    assert total / num >= floor - 0.01
    # No more than it takes: what is bought beyond the cheap model's 0.5 costs up to 0.2 a request.
    assert spent / num <= max(0.0, floor - 0.45) / 0.2 + 0.05


def test_a_floor_beyond_reach_takes_the_best() -> None:
    router = QualityFloorDual(0.9)
    chosen = [router.choose(request(), OFFERS, 0.0) for _ in range(500)]
    assert chosen[-50:] == ["large"] * 50


def test_dual_pool_learns_which_prompts_get_long_answers() -> None:
    pool = DualPool()
    short, long, longest = (request(prompt_tokens=n) for n in (100, 600, 5000))
    assert [pool.choose(one, OFFERS, 0.0) for one in (short, long, longest)] == [
        "small", "small", "large"]
    for number in range(20):
        pool.ended(departure(number, 0, 0.1, 1.0, 300), "small", 100)
        pool.ended(departure(number, 0, 0.1, 1.0, 300), "small", 600)
    assert pool.choose(short, OFFERS, 0.0) == "large"
    assert pool.choose(long, OFFERS, 0.0) == "small"
    for number in range(20):
        pool.ended(departure(number, 0, None, 0.0, 0, finished=False), "small", 100)
    assert pool.choose(short, OFFERS, 0.0) == "large"  # those cut off teach nothing
    for number in range(20):
        pool.ended(departure(number, 0, 0.1, 1.0, 10), "large", 100)
    assert pool.choose(short, OFFERS, 0.0) == "small"


def test_virtual_queues_fill_and_drain() -> None:
    queues = VirtualQueues(seconds_per_token=0.01)  # a second per request of 100 tokens
    one = request(forecasts=expected())
    chosen = [queues.choose(one, (SMALL, LARGE), 0.0) for _ in range(4)]
    assert chosen == ["small", "large", "small", "large"]
    assert queues.choose(one, (SMALL, LARGE), 100.0) == "small"  # all is done by then


def test_virtual_queues_learn_which_model_is_slow() -> None:
    queues = VirtualQueues(seconds_per_token=0.01)
    for number in range(60):
        queues.ended(departure(number, 0, 0.1, 4.0, 100), "small", 10)
        queues.ended(departure(number, 0, 0.1, 1.0, 100), "large", 10)
    queues.ended(departure(99, 0, None, 9e9, 100, finished=False), "large", 10)
    queues.ended(departure(99, 0, None, 9e9, 0), "large", 10)
    one = request(forecasts=expected())
    chosen = [queues.choose(one, (SMALL, LARGE), 0.0) for _ in range(10)]
    assert chosen.count("large") == 8
