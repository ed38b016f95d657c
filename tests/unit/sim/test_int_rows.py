import numpy as np
import pytest

from penstock.sim.int_rows import IntRows


def filled(num_rows):
    rows = IntRows(2)
    for number in range(num_rows):
        rows.add((number, -number << 40))
    return rows


@pytest.mark.parametrize("num_rows", [0, 1, 3000, 10_000])
def test_the_table_has_every_row_in_order(num_rows):
    table = filled(num_rows).table()
    assert table.shape == (num_rows, 2)
    assert np.array_equal(table[:, 0], np.arange(num_rows))
    assert np.array_equal(table[:, 1], -np.arange(num_rows) << 40)


def test_rows_are_appended_after_the_table_was_taken():
    rows = filled(5)
    rows.table()
    rows.add((5, 6))
    assert rows.table()[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_first_rows_are_forgotten():
    rows = filled(5000)
    rows.drop_first(4998)
    rows.add((7, 8))
    assert rows.table().tolist() == [[4998, -4998 << 40], [4999, -4999 << 40], [7, 8]]


def test_a_number_takes_eight_bytes():
    table = filled(100_000).table()
    assert table.nbytes == 100_000 * 2 * 8
