"""Rows of a long run are not held until its end."""

import tracemalloc

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.table import UNFINISHED, concat
from penstock.sim.columns import Outcomes
from penstock.sim.recorder import Ended
from penstock.workload.workload import Workload

ROWS = 20_000


def block(number):
    whole = np.arange(ROWS)
    none, nothing = np.zeros(ROWS, np.int64), np.zeros(0, np.int64)
    return Workload(number * 10.0 + whole / ROWS, whole + 1, whole + 1, none + 9, ("m",), none,
                    ("c",), none, ("t",), none, nothing, nothing)


def ended(ids):
    seconds = ids / 1000.0
    counts = np.zeros(len(ids), np.int64)
    return Ended(ids, counts + 5, seconds, seconds, seconds + 1, seconds, seconds, seconds, counts,
                 counts, counts, np.zeros(len(ids), np.bool_))


def run(num_blocks, stays, found):
    """Store blocks of which one request stays. Returns the most bytes that were held."""
    outcomes = Outcomes({"c": Slo()}, found)
    tracemalloc.start()
    try:
        for number in range(num_blocks):
            outcomes.expect(block(number))
            ids = np.arange(number * ROWS, (number + 1) * ROWS)
            outcomes.store(0, ended(ids[ids != stays]), set())
            outcomes.hand_over()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    outcomes.store(1, ended(np.array([] if stays is None else [stays], np.int64)), set())
    outcomes.hand_over()
    assert outcomes.first == num_blocks * ROWS
    return most


def test_a_request_that_stays_does_not_keep_all_later_ones_in_memory():
    tables = []
    few = run(5, 7, lambda _: None)
    many = run(40, 7, tables.append)
    assert many < 1.2 * few
    found = concat(tables)
    assert found.request_id.tolist() == list(range(40 * ROWS))
    assert found.replica[7] == 1
    assert not found.replica[8:].any()
    np.testing.assert_array_equal(found.first_token_s, found.request_id / 1000.0)
    np.testing.assert_array_equal(found.prompt_tokens, found.request_id % ROWS + 1)
    assert not np.equal(found.status, UNFINISHED).any()


def test_rows_are_handed_over_as_they_are_over():
    few = run(5, None, lambda _: None)
    assert run(40, None, lambda _: None) < 1.2 * few
