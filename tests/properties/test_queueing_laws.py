"""Laws of the queueing model on random replicas."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.perf.queueing.analysis import analyze
from penstock.perf.queueing.batch import stack
from penstock.perf.queueing.sizing import PercentileTargets, best_concurrency, size
from penstock.published.inferno.queueing.analysis import InfernoQueues
from penstock.published.inferno.queueing.sizing import size as size_inferno
from penstock.published.inferno.values import Targets
from support.scaled_examples import examples
from support.strategies import queue_batches, queue_specs

TARGETS = st.builds(
    PercentileTargets, st.one_of(st.none(), st.floats(0.01, 30.0)),
    st.one_of(st.none(), st.floats(0.005, 1.0)), st.just(None),
    st.one_of(st.none(), st.sampled_from((50.0, 95.0, 99.0))))


@given(st.lists(queue_batches(), min_size=1, max_size=4), st.floats(0.001, 0.999))
def test_conservation_and_order(rows, load) -> None:
    batch = stack(rows)
    rates = load * batch.capacity_per_s
    found = analyze(batch, rates)
    assert (found.throughput_per_s <= rates * (1 + 1e-12)).all()
    assert (found.in_service <= batch.slots * (1 + 1e-9)).all()
    assert found.in_system == pytest.approx(found.in_service + rates * found.wait_s)  # Little
    for name in ("ttft", "itl"):
        percentiles = getattr(found, f"{name}_percentiles_s")
        answers = ~np.isnan(percentiles).any(axis=1)
        assert (np.diff(percentiles[answers], axis=1) >= 0.0).all()
        assert np.isfinite(percentiles[answers]).all()
        assert (getattr(found, f"{name}_s")[answers] > 0.0).all()


@given(queue_batches(), st.floats(0.05, 0.9), st.floats(0.0, 0.09))
def test_more_load_never_helps_the_chain(batch, load, more) -> None:
    low, high = (analyze(batch, share * batch.capacity_per_s) for share in (load, load + more))
    assert low.wait_s[0] <= high.wait_s[0] * (1 + 1e-9) + 1e-12
    assert low.in_service[0] <= high.in_service[0] * (1 + 1e-9)


@given(queue_batches(), TARGETS, st.floats(1.0, 5.0), st.floats(1.0, 5.0))
def test_looser_targets_never_lower_the_rate(batch, targets, ttft, itl) -> None:
    looser = replace(targets, ttft_s=targets.ttft_s and targets.ttft_s * ttft,
                     itl_s=targets.itl_s and targets.itl_s * itl)
    tight, loose, free = (size(batch, each) for each in (targets, looser, PercentileTargets()))
    assert tight.rate_per_s[0] <= loose.rate_per_s[0] <= free.rate_per_s[0]
    assert tight.feasible[0] <= loose.feasible[0] <= free.feasible[0]


@given(st.lists(st.tuples(queue_batches(), TARGETS), min_size=2, max_size=5), st.randoms())
def test_rows_do_not_depend_on_their_order(rows, random) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    plain = size(stack([batch for batch, _ in rows]), [targets for _, targets in rows])
    mixed = size(stack([rows[i][0] for i in order]), [rows[i][1] for i in order])
    assert mixed.rate_per_s == pytest.approx(plain.rate_per_s[order], rel=1e-6)
    assert mixed.feasible.tolist() == plain.feasible[order].tolist()


@given(queue_batches(), TARGETS, st.floats(1.0, 4.0))
def test_faster_steps_never_lower_the_rate(batch, targets, faster) -> None:
    """Everything as many times as fast, so that rates scale and targets are looser alike."""
    times = {name: getattr(batch, name) / faster for name in (
        "decode_step_s", "prompt_s", "context_sd_s", "empty_step_s")}
    rates = {name: getattr(batch, name) * faster for name in ("rate_per_s", "prompt_rate_per_s")}
    quick = replace(batch, **times, **rates)
    slow_rate, quick_rate = (size(each, targets).rate_per_s[0] for each in (batch, quick))
    assert quick_rate >= faster * slow_rate * (1 - 1e-6)


@examples(30)
@given(queue_batches(), TARGETS)
def test_best_concurrency_beats_every_limit_tried(batch, targets) -> None:
    found = best_concurrency(batch, targets)
    assert found.sizing.rate_per_s[0] >= 0.99 * found.rates_per_s.max()
    # A limit between two that were tried may be a little better: the most it can hold was tried.
    assert found.rates_per_s.max() >= size(batch, targets).rate_per_s[0] * (1 - 1e-6)


@given(queue_specs(), st.floats(0.01, 1.5))
def test_published_mode_conserves(spec, load) -> None:
    model = InfernoQueues([spec])
    rate = load * model.max_rate_per_s
    found = model.metrics(rate).row(0)
    assert found.throughput_per_s <= rate[0] * (1 + 1e-6)  # 32-bit floats
    assert 0.0 <= found.utilisation <= 1.0
    assert found.wait_ms >= 0.0
    full = float(model.chain.occupancy(rate / 1000).probabilities[0, -1])
    assert found.throughput_per_s == pytest.approx(rate[0] * (1 - full), rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(queue_specs(), st.floats(1.0, 5000.0), st.floats(1.0, 500.0)),
                min_size=2, max_size=5), st.randoms())
def test_published_sizing_does_not_depend_on_order(rows, random) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    specs = [spec for spec, _, _ in rows]
    targets = [Targets(ttft, itl) for _, ttft, itl in rows]
    plain = size_inferno(specs, targets)
    mixed = size_inferno([specs[i] for i in order], [targets[i] for i in order])
    for place, index in enumerate(order):
        assert mixed[place].rate_per_s == pytest.approx(plain[index].rate_per_s, rel=1e-5)
        assert mixed[place].feasible == plain[index].feasible
