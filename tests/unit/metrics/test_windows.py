from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ITL_MODES
from penstock.metrics import windows
from penstock.metrics.definitions import TOLERANCE_S
from penstock.metrics.windows import token_list_statistics, window_statistics


def naive(token_s, due_first_s, itl_s, place):
    """One token at a time, in plain Python, written from the definitions."""
    gaps = [after - before for before, after in pairwise(token_s)]
    if ITL_MODES[place] == "strict":
        late = sum(gap > itl_s + TOLERANCE_S for gap in gaps)
    elif ITL_MODES[place] == "mean":
        ended_s = token_s[0] + itl_s * len(gaps)
        late = len(gaps) if token_s[-1] > ended_s + TOLERANCE_S else 0
    else:
        start = token_s[0] if np.isnan(due_first_s) else due_first_s
        late = sum(time > start + TOLERANCE_S + number * itl_s
                   for number, time in enumerate(token_s))
    if not gaps:
        return (np.nan, np.nan, np.nan, late)
    p99 = sorted(gaps)[len(gaps) - 1 - len(gaps) // 100]
    return (sum(gaps) / len(gaps), p99, max(gaps), late)


@st.composite
def runs(draw):
    """Steps of a replica and requests as windows of them; times are whole milliseconds."""
    num_steps = draw(st.integers(1, 260))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    step_end_s = np.cumsum(random.integers(1, 60, num_steps)) / 1000.0
    num_requests = draw(st.integers(0, 12))
    first = random.integers(0, num_steps, num_requests)
    tokens = np.array([random.integers(1, num_steps - i + 1) for i in first], dtype=np.int64)
    due = np.where(random.random(num_requests) < 0.3, np.nan,
                   random.integers(0, 3000, num_requests) / 1000.0)
    itl = np.where(random.random(num_requests) < 0.3, np.nan,
                   random.integers(10, 60, num_requests) / 1000.0)
    return step_end_s, first, tokens, due, itl, random.integers(0, 3, num_requests)


def check(statistics, expected):
    for column, values in zip(statistics, np.array(expected).reshape(-1, 4).T, strict=True):
        np.testing.assert_allclose(column, values, rtol=1e-9, atol=1e-12)


@given(runs())
def test_windows_equal_the_naive_computation(run):
    step_end_s, first, tokens, due, itl, modes = run
    statistics = window_statistics(step_end_s, first + 1, step_end_s[first], tokens, due, itl,
                                   modes)
    check(statistics, [naive(step_end_s[i:i + n].tolist(), *rest)
                       for i, n, *rest in zip(first, tokens, due, itl, modes, strict=True)])


@given(runs(), st.integers(1, 5))
def test_token_lists_with_pauses_equal_the_naive_computation(run, pause):
    step_end_s, first, tokens, due, itl, modes = run
    lists = [np.delete(step_end_s[i:i + n], slice(1, 1 + pause))
             for i, n in zip(first, tokens, strict=True)]
    check(token_list_statistics(lists, due, itl, modes),
          [naive(times.tolist(), *rest)
           for times, *rest in zip(lists, due, itl, modes, strict=True)])


def test_the_first_token_may_come_outside_the_turns():
    statistics = window_statistics(np.array([2.0, 3.0]), np.array([0]), np.array([0.5]),
                                   np.array([3]), np.array([np.nan]), np.array([np.nan]),
                                   np.array([0]))
    assert statistics.itl_mean_s == [1.25]
    assert statistics.itl_max_s == [1.5]


def test_small_blocks_give_the_same(monkeypatch):
    random = np.random.default_rng(3)
    ends = np.cumsum(random.random(500))
    first = random.integers(0, 300, 60)
    arguments = (ends, first + 1, ends[first], np.full(60, 150), np.full(60, np.nan),
                 np.full(60, 0.5), first % 3)
    whole = window_statistics(*arguments)
    monkeypatch.setattr(windows, "BLOCK_TOKENS", 400)
    check(window_statistics(*arguments), np.array(whole).T)


@pytest.mark.parametrize("tokens", [0, 1])
def test_no_gap_means_no_statistics(tokens):
    statistics = window_statistics(np.array([1.0]), np.array([1]), np.array([1.0]),
                                   np.array([tokens]), np.array([0.5]), np.array([0.1]),
                                   np.array([0]))
    assert np.isnan(statistics[:3]).all()
    assert statistics.num_late_tokens == [tokens]


def test_a_token_list_may_be_empty():
    statistics = token_list_statistics([np.zeros(0)], np.array([1.0]), np.array([0.1]),
                                       np.array([0]))
    assert np.isnan(statistics.itl_mean_s).all()
    assert statistics.num_late_tokens == [0]
