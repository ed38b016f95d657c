"""Parts of Dynamo's planner on worked examples: predictors, regression, rates, load, budget."""

import sys

import pytest

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts
from penstock.published.autoscalers.dynamo.budget import within_budget
from penstock.published.autoscalers.dynamo.load import (
    LoadView,
    Worker,
    by_objectives,
    by_thresholds,
)
from penstock.published.autoscalers.dynamo.predictors import Arima, Constant, Kalman, Predictor
from penstock.published.autoscalers.dynamo.rates import Engine, bootstrap
from penstock.published.autoscalers.dynamo.regression import (
    Sample,
    StepPlane,
    StepRegression,
    fitted,
)
from penstock.published.autoscalers.lengths import Lengths


def fed(predictor: Predictor, *values: float) -> Predictor:
    for value in values:
        predictor.add(value)
    return predictor


def test_leading_zeros_do_not_count() -> None:
    assert Constant().next() == 0.0
    assert Kalman().next() == 0.0
    assert fed(Constant(), 0.0, 7.0, 0.0).next() == 0.0
    assert fed(Kalman(), 0.0, 0.0, 10.0).next() == 10.0
    assert fed(Constant(), 7.0, float("nan")).next() == 0.0


def test_kalman_follows_a_trend() -> None:
    # Gains after the second value: 2,001 / 2,011 and 1,000 / 2,011, of an error of 10.
    assert fed(Kalman(), 10.0, 20.0).next() == pytest.approx(
        10.0 + 10.0 * 2001 / 2011 + 10.0 * 1000 / 2011)
    rising = fed(Kalman(), *(10.0 * step for step in range(1, 40)))
    assert rising.next() == pytest.approx(400.0, rel=1e-3)
    logs = fed(Kalman(use_log=True), 5.0, 5.0, 5.0)
    assert logs.next() == pytest.approx(5.0)


class FakeModel:
    def __init__(self, values: list[float], order: tuple[int, int, int]) -> None:
        self.values, self.order = list(values), order

    def update(self, values: list[float]) -> None:
        self.values += values

    def predict(self, n_periods: int) -> list[float]:
        assert n_periods == 1
        return [self.values[-1] + 1.0]


@pytest.mark.parametrize(("order", "found"), [((1, 0, 0), [7.0, 8.0]), ((0, 1, 0), [18.03, 20.75])])
def test_arima(monkeypatch: pytest.MonkeyPatch, order, found) -> None:
    """An order without p and q falls back to logarithms: e (1 + last) - 1."""
    module = type(sys)("pmdarima")
    module.auto_arima = lambda values, **_: FakeModel(values, order)
    monkeypatch.setitem(sys.modules, "pmdarima", module)
    arima = fed(Arima(), 1.0, 2.0, 3.0, 4.0)
    assert arima.next() == 4.0  # too few
    assert fed(Arima(), *[3.0] * 6).next() == 3.0  # constant
    arima.add(6.0)
    assert arima.next() == pytest.approx(found[0], abs=0.01)
    arima.add(7.0)
    assert arima.next() == pytest.approx(found[1], abs=0.01)


def test_arima_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pmdarima", None)
    with pytest.raises(InputError, match=r"needs the extra 'arima'.*pip install '.\[arima\]'"):
        Arima()


def test_the_regression_finds_the_plane() -> None:
    plane = StepPlane(0.01, 1e-5, 1e-7)
    samples = [Sample(p, kv, plane.seconds(p, kv)) for p in (0, 500, 2000) for kv in (0, 9e4)]
    assert fitted(samples) == pytest.approx(plane)
    assert fitted([Sample(p, 5.0, 0.02 + p) for p in range(5)]) == pytest.approx((0.02, 1.0, 0.0))
    assert fitted([Sample(1.0, kv, 1.0 - kv / 100) for kv in range(9)]) is None  # falls with load


def test_the_regression_needs_five_steps_and_keeps_all_loads() -> None:
    regression = StepRegression()
    for p in range(4):
        regression.add(Sample(1000.0 * p, 100.0, 0.01 + 0.01 * p))
    regression.add(Sample(1.0, 1.0, 0.0))  # no step
    assert regression.plane() is None
    for _ in range(500):
        regression.add(Sample(1000.0, 100.0, 0.02))
    assert len(regression) == 64
    plane = regression.plane()
    assert plane is not None
    assert plane.seconds(3000.0, 100.0) == pytest.approx(0.04)  # the one step of 3,000 stayed


ENGINE = Engine(StepPlane(0.01, 1e-5, 0.0), 1000, 10_000, 8)


def test_ttft_in_full_steps() -> None:
    assert ENGINE.ttft_s(2000, Lengths(500.0, 10.0), 0) == pytest.approx(0.02 + 0.02 + 0.015)
    assert ENGINE.ttft_s(1500, Lengths(500.0, 10.0, 0.5), 0) == pytest.approx(0.02)
    assert ENGINE.ttft_s(0, Lengths(500.0, 10.0, 1.0), 0) == 0.0


@pytest.mark.parametrize(("ttft_s", "itl_s", "batch"), [
    (1.0, 1.0, 8),  # the most sequences
    (1.0, 0.01055, 5),  # a batch of b takes 10 + 0.1 b ms
    (0.01125, 1.0, 2),  # its TTFT is 11 + 0.1 b ms
    (1.0, 0.005, 1),  # no batch is fast enough
])
def test_the_largest_batch_within_both_objectives(ttft_s, itl_s, batch) -> None:
    found = ENGINE.best_rate(Lengths(100.0, 10.0), ttft_s, itl_s)
    assert found is not None
    assert found.per_s == pytest.approx(batch / (10 * (0.01 + 1e-4 * batch)))
    assert found.itl_s == pytest.approx(0.01 + 1e-4 * batch)


def test_cache_and_steps_bound_the_batch() -> None:
    small = Engine(ENGINE.plane, 1000, 315, 8)  # 3 requests of 105 tokens
    found = small.best_rate(Lengths(100.0, 10.0), 1.0, 1.0)
    assert found is not None
    assert found.per_s == pytest.approx(3 / (10 * 0.0103))
    tight = Engine(ENGINE.plane, 55, 10_000, 100)  # 55 - 500 / 10 tokens of a step
    found = tight.best_rate(Lengths(500.0, 10.0), 9.0, 9.0)
    assert found is not None
    assert found.per_s == pytest.approx(5 / (10 * (0.01 + 55e-5)))
    assert ENGINE.best_rate(Lengths(0.0, 10.0), 1.0, 1.0) is None


def test_believed_steps_begin_the_fit() -> None:
    facts = GroupFacts("m", 1, 1, 1, 1.0, 60.0, 10_000, None, 8, 1000)

    def step_s(features: StepFeatures) -> float:
        return 0.01 + 1e-5 * features.prefill_tokens + 1e-6 * features.decode_context_tokens

    samples = list(bootstrap(facts, step_s, Lengths(100.0, 10.0)))
    assert len(samples) == 24  # 5 x 5 loads without the idle one
    assert max(one.kv_tokens for one in samples) == 840  # 8 sequences of 105 tokens
    assert fitted(samples) == pytest.approx((0.01, 1e-5, 1e-6))
    assert not list(bootstrap(GroupFacts("m", 1, 1, 1, 1.0, 60.0, 9), step_s, Lengths(9.0, 9.0)))


@pytest.mark.parametrize(("target", "loads", "change"), [
    ("throughput", [(0, 900), (200, 900)], 1),  # 1,100 of 1,000
    ("throughput", [(0, 900), (100, 900)], 0),
    ("throughput", [(0, 590), (0, 590)], -1),
    ("throughput", [(0, 590), (20, 590)], 0),
    ("throughput", [(0, 0)], 0),  # the last one stays
    ("latency", [(0, 410), (0, 0)], 1),
    ("latency", [(0, 90), (0, 90)], -1),
    ("latency", [(0, 100), (0, 0)], 0),
])
def test_thresholds(target, loads, change) -> None:
    assert by_thresholds([Worker(*one) for one in loads], 1000, target).change == change


VIEW = LoadView(Engine(StepPlane(0.01, 1e-5, 1e-6), 1000, 50_000, 64), Lengths(500.0, 100.0),
                1000.0, 100.0, ttft_s=0.1, itl_s=0.04, sensitivity=0.8)


@pytest.mark.parametrize(("loads", "change", "reason"), [
    # TTFT with 20,000 KV tokens: 30 ms a step and 10 ms for each 1,000 tokens.
    ([(2000, 20_000)] * 2, 1, "scale up"),  # 2,500 tokens: 115 ms
    ([(2000, 20_000), (1500, 20_000)], 0, "scale down refused: consolidation"),  # 80 ms
    # ITL: 12 ms and 1 ms for each 1,000 KV tokens.
    ([(0, 29_000)] * 2, 1, "scale up"),  # 41 ms with a further decode
    ([(0, 9000)] * 2, -1, "scale down"),  # 30 ms of 32 with 18,000
    ([(0, 11_000)] * 2, 0, "scale down refused: consolidation"),  # 34 ms
    ([(0, 9000)], 0, "no change"),
    # 500 waiting tokens become 1,000: 1 step more of 28 ms and 10 ms, of 0.8 (100 - 33) ms.
    ([(500, 9000)] * 2, -1, "scale down"),
    ([(1000, 9000)] * 2, 0, "scale down refused: consolidation"),
])
def test_objectives(loads, change, reason) -> None:
    assert by_objectives([Worker(*one) for one in loads], VIEW) == (change, reason)


def test_the_cache_must_hold_the_load_of_one_less() -> None:
    slow = LoadView(Engine(StepPlane(0.01, 0.0, 0.0), 1000, 50_000, 64), Lengths(500.0, 100.0),
                    1000.0, 100.0, ttft_s=1.0, itl_s=1.0, sensitivity=0.8)
    assert by_objectives([Worker(0, 25_000)] * 2, slow).change == 0
    assert by_objectives([Worker(0, 24_000)] * 2, slow).change == -1


@pytest.mark.parametrize(("counts", "widths", "least", "most", "found"), [
    ([4, 4], [1, 1], [1, 1], 8, [4, 4]),
    ([6, 6], [1, 1], [1, 1], 8, [4, 4]),
    ([10, 1], [1, 1], [1, 1], 8, [7, 1]),
    ([3, 8], [4, 1], [1, 1], 18, [2, 8]),  # 18 / 20 of 3 is 2.7
    ([9], [2], [1], 7, [3]),
    ([5, 5], [1, 1], [2, 2], 3, [2, 2]),  # the least is kept
])
def test_the_budget_shrinks_in_proportion(counts, widths, least, most, found) -> None:
    assert within_budget(counts, widths, least, most) == found
