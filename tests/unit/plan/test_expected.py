"""What the analytic model expects of a plan's replicas."""

import numpy as np
import pytest

from penstock.metrics.definitions import itl_p99_s
from penstock.plan.expected import in_plan, median_request_share
from penstock.plan.judge import quantile
from support.small_plans import planned, traffic


@pytest.mark.parametrize("lengths", [[5], [99], [100], [250], [1000], [3, 40, 150, 150, 800]])
def test_the_share_is_that_of_gaps_drawn_alike(lengths):
    """Gaps uniform in 0..1, so that the gap of a share is the share."""
    random = np.random.default_rng(3)
    p99 = np.concatenate([itl_p99_s(random.random((4000, length))) for length in lengths])
    share = median_request_share(np.repeat(lengths, 4000))
    assert quantile(p99, 0.5) == pytest.approx(share, abs=0.004)


def test_the_share_of_short_answers_is_below_99_percent_and_of_long_ones_close_to_it():
    assert median_request_share(np.array([1])) == pytest.approx(0.5)
    assert median_request_share(np.array([10])) == pytest.approx(0.5 ** 0.1)
    assert median_request_share(np.array([100_000])) == pytest.approx(0.99, abs=1e-4)
    assert median_request_share(np.array([], dtype=np.int64)) == 0.99


def test_without_replicas_nothing_is_expected():
    plan = planned(service_classes=[{"name": "chat", "slo": {"ttft_s": 1e-4}},
                                    {"name": "batch", "slo": {"e2e_s": 1e-4}}])
    assert in_plan(plan, plan.choices[0]) == ()


def test_what_is_expected_covers_every_class_in_order():
    plan = planned(traffic(rate_per_s=60, num_requests=120))
    choice, = plan.choices
    found = in_plan(plan, choice)
    assert [e.name for e in found] == [c.name for c in choice.demand.classes]
    assert all(0 < e.itl_p99_s < 1 for e in found)
